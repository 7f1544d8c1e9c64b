/**
 * Writes docs/performance.md, docs/capacity.md, their figures and a part of README.md: `node bench/performance.ts <results.json> …`. Of several files
 * the later ones replace rows of those before; without any it is what was written last, kept in bench/measured.json.
 */
import * as Fs from "node:fs"
import * as Report from "./Report.ts"
import * as Results from "./Results.ts"

const files = process.argv.slice(2)
const read = (file: string) => JSON.parse(Fs.readFileSync(file, "utf8")) as Results.Results
console.log(Report.write(files.length === 0 ? Report.read() : Results.merge(files.map(read))).join("\n"))
