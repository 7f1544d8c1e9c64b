/** A thread's file that cannot be loaded. */
throw new Error("broken on purpose")
