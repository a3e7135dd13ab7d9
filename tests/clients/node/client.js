// An ordinary client of @grpc/grpc-js: the default settings, and round_robin over the addresses.
//
// It calls until its standard input is closed, then prints what became of the calls as one line of JSON.
"use strict";

const grpc = require("@grpc/grpc-js");
const { parseArgs } = require("node:util");

const SERVICE = "/inference.GRPCInferenceService/";
const same = (bytes) => bytes; // messages as they are: the test encodes them

const { values } = parseArgs({
  options: {
    addresses: { type: "string" }, // host:port,host:port
    mode: { type: "string", default: "unary" }, // unary or stream
    request: { type: "string" }, // an encoded ModelInferRequest, in hexadecimal
    callers: { type: "string", default: "4" }, // calls at once
    keepalive_ms: { type: "string", default: "-1" }, // as in grpc.keepalive_time_ms
  },
});
const request = Buffer.from(values.request, "hex");
const client = new grpc.Client(`ipv4:${values.addresses}`, grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
  "grpc.keepalive_time_ms": Number(values.keepalive_ms),
});
const options = () => ({ deadline: Date.now() + 30_000 });

function unary() {
  return new Promise((resolve, reject) => {
    const done = (error, answer) => (error ? reject(error) : resolve(answer));
    client.makeUnaryRequest(`${SERVICE}ModelInfer`, same, same, request, new grpc.Metadata(), options(), done);
  });
}

// Sends three requests, each after the answer to the one before, and reads to the end.
function stream() {
  return new Promise((resolve, reject) => {
    const opened = client.makeBidiStreamRequest(`${SERVICE}ModelStreamInfer`, same, same, new grpc.Metadata(), options());
    let answers = 0;
    opened.on("data", () => {
      answers += 1;
      if (answers < 3) opened.write(request);
      else opened.end();
    });
    opened.on("error", reject);
    opened.on("status", (status) => {
      if (status.code === grpc.status.OK && answers === 3) resolve();
      else reject(Object.assign(new Error(`${answers} answers`), { code: status.code, details: status.details }));
    });
    opened.write(request);
  });
}

let over = false;
let ok = 0;
const lost = {};

async function caller() {
  const call = { unary, stream }[values.mode];
  while (!over) {
    try {
      await call();
      ok += 1;
    } catch (error) {
      const name = `${grpc.status[error.code]}: ${error.details}`;
      lost[name] = (lost[name] ?? 0) + 1;
    }
  }
}

const callers = Array.from({ length: Number(values.callers) }, caller);
console.log("calling");
process.stdin.resume();
process.stdin.on("end", async () => {
  over = true;
  await Promise.all(callers);
  console.log(JSON.stringify({ ok, lost }));
  process.exit(0);
});
