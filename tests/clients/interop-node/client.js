// gRPC's public interop cases by a client of @grpc/grpc-js, as doc/interop-test-descriptions.md of gRPC describes them.
//
// It ends with 0 when the server did what the case wants, and else with 1 and a sentence.
"use strict";

const assert = require("node:assert/strict");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const { parseArgs } = require("node:util");

const { values } = parseArgs({
  options: {
    server_host: { type: "string" },
    server_port: { type: "string" },
    test_case: { type: "string" },
    proto: { type: "string" }, // the file that defines grpc.testing.TestService
  },
});

const GZIP = { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };
const { testing } = grpc.loadPackageDefinition(loader.loadSync(values.proto, { keepCase: true })).grpc;
const address = `${values.server_host}:${values.server_port}`;
const connect = (options = {}) => new testing.TestService(address, grpc.credentials.createInsecure(), options);

const REQUEST_SIZES = [27182, 8, 1828, 45904];
const RESPONSE_SIZES = [31415, 9, 2653, 58979];
const payload = (size) => ({ body: Buffer.alloc(size) });
const output = (response, request) => ({ response_parameters: [{ size: response }], payload: payload(request) });

const unary = (client, method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

// Answers of a stream as they come; the status is thrown at its end if it is not OK.
async function read(stream, each = () => {}) {
  const answers = [];
  for await (const answer of stream) {
    answers.push(answer);
    each(answers.length);
  }
  return answers;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "want a status that is not OK" });
}

async function largeUnary(client) {
  const answer = await unary(client, "UnaryCall", { response_size: 314159, payload: payload(271828) });
  assert.deepEqual(answer.payload.body, Buffer.alloc(314159));
}

async function clientStreaming(client) {
  const answer = await new Promise((resolve, reject) => {
    const call = client.StreamingInputCall((error, got) => (error ? reject(error) : resolve(got)));
    for (const size of REQUEST_SIZES) call.write({ payload: payload(size) });
    call.end();
  });
  assert.equal(answer.aggregated_payload_size, 74922);
}

async function pingPong(client) {
  const call = client.FullDuplexCall();
  call.write(output(RESPONSE_SIZES[0], REQUEST_SIZES[0]));
  const answers = await read(call, (count) => {
    if (count < RESPONSE_SIZES.length) call.write(output(RESPONSE_SIZES[count], REQUEST_SIZES[count]));
    else call.end();
  });
  assert.deepEqual(answers.map((answer) => answer.payload.body.length), RESPONSE_SIZES);
}

const cases = {
  empty_unary: async (client) => assert.deepEqual({ ...(await unary(client, "EmptyCall", {})) }, {}),
  large_unary: largeUnary,
  client_streaming: clientStreaming,
  async server_streaming(client) {
    const request = { response_parameters: RESPONSE_SIZES.map((size) => ({ size })) };
    const answers = await read(client.StreamingOutputCall(request));
    assert.deepEqual(answers.map((answer) => answer.payload.body.length), RESPONSE_SIZES);
  },
  ping_pong: pingPong,
  async empty_stream(client) {
    const call = client.FullDuplexCall();
    call.end();
    assert.deepEqual(await read(call), []);
  },
  async timeout_on_sleeping_server(client) {
    const call = client.FullDuplexCall({ deadline: Date.now() + 1 });
    call.write({ response_parameters: [{ size: 1, interval_us: 5_000_000 }], payload: payload(27182) });
    assert.equal((await failure(read(call))).code, grpc.status.DEADLINE_EXCEEDED);
  },
  async cancel_after_begin(client) {
    const ended = new Promise((resolve, reject) => {
      const call = client.StreamingInputCall((error, got) => (error ? reject(error) : resolve(got)));
      setImmediate(() => call.cancel());
    });
    assert.equal((await failure(ended)).code, grpc.status.CANCELLED);
  },
  async cancel_after_first_response(client) {
    const call = client.FullDuplexCall();
    call.write(output(RESPONSE_SIZES[0], REQUEST_SIZES[0]));
    assert.equal((await failure(read(call, () => call.cancel()))).code, grpc.status.CANCELLED);
  },
  async status_code_and_message(client) {
    const wanted = { code: 2, message: "test status message" };
    const answered = await failure(unary(client, "UnaryCall", { response_status: wanted }));
    assert.deepEqual([answered.code, answered.details], [2, wanted.message]);
    const call = client.FullDuplexCall();
    call.write({ response_status: wanted });
    call.end();
    const streamed = await failure(read(call));
    assert.deepEqual([streamed.code, streamed.details], [2, wanted.message]);
  },
  async special_status_message(client) {
    const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    const answered = await failure(unary(client, "UnaryCall", { response_status: { code: 2, message } }));
    assert.deepEqual([answered.code, answered.details], [2, message]);
  },
  async unimplemented_method(client) {
    assert.equal((await failure(unary(client, "UnimplementedCall", {}))).code, grpc.status.UNIMPLEMENTED);
  },
  async unimplemented_service(client) {
    const call = new Promise((resolve, reject) => {
      const path = "/grpc.testing.UnimplementedService/UnimplementedCall";
      const same = (bytes) => bytes;
      client.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error, answer) => (error ? reject(error) : resolve(answer)));
    });
    assert.equal((await failure(call)).code, grpc.status.UNIMPLEMENTED);
  },
  large_unary_gzip: () => largeUnary(connect(GZIP)),
  client_streaming_gzip: () => clientStreaming(connect(GZIP)),
  ping_pong_gzip: () => pingPong(connect(GZIP)),
};

cases[values.test_case](connect()).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
