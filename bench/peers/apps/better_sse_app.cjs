// The application around better-sse: a channel for each key, as its documentation has it, on Node's own server.
// POST /pub?id=KEY broadcasts the body to the clients of GET /sub?id=KEY. Started as: node better_sse_app.cjs PORT
"use strict";

const http = require("node:http");
const { createChannel, createSession } = require("better-sse");

const channels = new Map();

function channelOf(key) {
  let channel = channels.get(key);
  if (channel === undefined) {
    channel = createChannel();
    channel.on("session-deregistered", () => {
      if (channel.sessionCount === 0) channels.delete(key);
    });
    channels.set(key, channel);
  }
  return channel;
}

async function subscribe(key, request, response) {
  // The text as it came: JSON.stringify, the default, would only add to its work.
  const session = await createSession(request, response, { serializer: (text) => text });
  channelOf(key).register(session);
}

function publish(key, request, response) {
  let text = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => {
    text += chunk;
  });
  request.on("end", () => {
    channels.get(key)?.broadcast(text);
    response.writeHead(202).end();
  });
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const key = url.searchParams.get("id");
  if (request.method === "GET" && url.pathname === "/sub") subscribe(key, request, response);
  else if (request.method === "POST" && url.pathname === "/pub") publish(key, request, response);
  else response.writeHead(404).end();
});
// A publisher that pauses for a measurement keeps its connection.
server.keepAliveTimeout = 3_600_000;
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
