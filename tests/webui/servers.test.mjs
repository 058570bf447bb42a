import assert from "node:assert/strict";
import { test } from "node:test";

import { admission, ask, baseOfScript, diagnose, queryOf, serverAt, serverOf }
  from "../../webui_patch/servers.js";

const HOME = "http://localhost:5700";
const REGISTRY = JSON.stringify({
  servers: [
    { id: "a", name: "Here", baseUrl: "http://localhost:5700/", authToken: "ta", useAuthToken: true },
    { id: "b", name: "There", baseUrl: "https://other.example/gptme", authToken: "tb", useAuthToken: true },
    { id: "c", name: "", baseUrl: "http://c:1", authToken: "tc", useAuthToken: false },
    { id: "d", baseUrl: "javascript:alert(1)" }, { id: 7 }, null,
  ],
  activeServerId: "a",
});

test("a conversation's server is the one in its address, else the active one", () => {
  assert.deepEqual(serverOf({ search: "?server=b" }, REGISTRY, HOME).base,
    "https://other.example/gptme");
  assert.equal(serverOf({ search: "?server=b" }, REGISTRY, HOME).token, "tb");
  assert.equal(serverOf({ search: "" }, REGISTRY, HOME).base, HOME);
  assert.equal(serverOf({ search: "?server=c" }, REGISTRY, HOME).token, "", "it is not to be used");
});

test("without a registry, or one that makes no sense, it is the server of the script", () => {
  for (const registry of [null, "{", "[]", '{"servers": 1}', '{"servers": [{"id": "x"}]}']) {
    assert.equal(serverOf({ search: "?server=x" }, registry, HOME).base, HOME);
  }
  assert.equal(serverOf({ search: "?server=d" }, REGISTRY, HOME).base, HOME);
});

test("the web UI's name for a server leads back to it", () => {
  for (const id of ["a", "b", "c"]) {
    const server = serverOf({ search: `?server=${id}` }, REGISTRY, HOME);
    assert.equal(queryOf(server, REGISTRY, HOME), `?server=${id}`);
  }
  const home = { base: HOME, token: "", name: "" };
  assert.equal(queryOf(home, REGISTRY, HOME), "?server=a", "whatever the login");
  assert.equal(queryOf(home, null, HOME), "");
  const elsewhere = { base: "http://unknown:1", token: "", name: "" };
  assert.equal(queryOf(elsewhere, REGISTRY, HOME), null);
  assert.equal(queryOf(elsewhere, null, HOME), null);
  const odd = JSON.stringify({ servers: [{ id: "a&b=#", baseUrl: HOME }] });
  assert.equal(queryOf(home, odd, HOME), "?server=a%26b%3D%23");
});

test("an address may be typed in every usual way", () => {
  for (const [typed, base] of [
    ["wss://voice.example/voice", "https://voice.example"],
    [" ws://localhost:5700/voice ", HOME],
    ["ws://localhost:5700/api/v2/voice", HOME],
    ["https://other.example/gptme/", "https://other.example/gptme"],
    ["box:5700", "http://box:5700"],
  ]) {
    assert.equal(serverAt(typed, REGISTRY).base, base, typed);
  }
  assert.equal(serverAt("localhost:5700", REGISTRY).token, "ta", "a known server's token is used");
});

test("what is no address says so", () => {
  for (const typed of ["ftp://x", "ws://", "http://user:secret@host", "not an address"]) {
    assert.throws(() => serverAt(typed, null), (error) => {
      assert.equal(error.code, "server_address_wrong", typed);
      assert.ok(!error.message.includes("secret"));
      return true;
    });
  }
});

test("a script's server may be below a path", () => {
  assert.equal(baseOfScript("https://h/p/gptme-voice-plugin/abc/voice.js"), "https://h/p");
});

const SERVER = { base: "http://other:1", token: "t0ken", name: "Other" };
const never = new AbortController().signal;

/** Answer the next requests; returns what was asked. */
function answering(t, answer) {
  const asked = [];
  t.mock.method(globalThis, "fetch", async (url, init) => {
    asked.push({ url, ...init, headers: Object.fromEntries(init.headers) });
    if (answer instanceof Error) throw answer;
    return answer;
  });
  return asked;
}
const json = (data, status = 200) => Response.json(data, { status });

test("the page's own server needs no ticket: the browser sends its cookie", async (t) => {
  const asked = answering(t, json({}));
  assert.equal(await admission(SERVER, never, { origin: "http://other:1" }),
    "ws://other:1/api/v2/voice");
  assert.deepEqual(asked, []);
});

test("another server is asked for a ticket with its token", async (t) => {
  const asked = answering(t, json({ ticket: "a/b", expires_in: 60 }));
  assert.equal(await admission(SERVER, never, { origin: "http://here" }),
    "ws://other:1/api/v2/voice?ticket=a%2Fb");
  assert.equal(asked[0].url, "http://other:1/api/v2/voice/tickets");
  assert.equal(asked[0].method, "POST");
  assert.equal(asked[0].headers.authorization, "Bearer t0ken");
  assert.equal(asked[0].credentials, "omit");
});

for (const [what, answer, code] of [
  ["no plugin", new Response("<html>", { headers: { "Content-Type": "text/html" } }),
    "plugin_missing"],
  ["no such route", json({ error: "Not found" }, 404), "plugin_missing"],
  ["a wrong token", json({ error: "Unauthorized" }, 401), "login_missing"],
  ["our refusal", json({ error: "Not you.", code: "origin_refused" }, 403), "origin_refused"],
  ["gptme's refusal", json({ error: "Host" }, 403), "refused"],
  ["no voice process", new Response("", { status: 503 }), "voice_off"],
  ["a broken proxy", new Response("", { status: 502 }), "server_unreachable"],
  ["no answer, or none that the page may read", new TypeError("Failed to fetch"), "server_unasked"],
]) {
  test(`it says why: ${what}`, async (t) => {
    answering(t, answer);
    await assert.rejects(ask(SERVER, "tickets", {}), (error) => {
      assert.equal(error.code, code);
      assert.ok(error.message.endsWith(".") && !error.message.includes("t0ken"));
      return true;
    });
  });
}

test("a diagnosis is the server's own, if it has one", async (t) => {
  answering(t, json({ error: { code: "key_missing", message: "Set a key." } }));
  const problem = await diagnose(SERVER);
  assert.deepEqual([problem.code, problem.message], ["key_missing", "Set a key."]);
});

test("a diagnosis of a server that is well is none", async (t) => {
  answering(t, json({ backend: "echo" }));
  assert.equal(await diagnose(SERVER), null);
});
