export const write = (_results: unknown): ReadonlyArray<string> => []
