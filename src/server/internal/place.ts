/** Where in the user's code something was defined, for messages that must name it. */

/** `file:line:column` of whoever called the function that calls this; a remark where the runtime does not tell. */
export const ofCaller = (): string => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 3
  const { stack } = new Error()
  Error.stackTraceLimit = stackTraceLimit
  const line = stack?.split("\n")[3]?.trim()
  return line === undefined ? "an unknown place" : line.replace(/^at /, "").replace("file://", "")
}
