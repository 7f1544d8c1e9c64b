/** Writes docs/performance.md and its figures: `node bench/performance.ts <results.json> …`. Of several files the later ones replace rows of those before. */
import * as Fs from "node:fs"
import * as Report from "./Report.ts"
import * as Results from "./Results.ts"

const files = process.argv.slice(2)
if (files.length === 0) throw new Error("name a file of results, as `npm run bench` writes to bench/results")
const results = Results.merge(files.map((file) => JSON.parse(Fs.readFileSync(file, "utf8")) as Results.Results))
console.log(Report.write(results).join("\n"))
