// @ts-check
/**
 * Which gptme server a conversation is on, and how a voice session with it is opened.
 *
 * gptme's web UI can show conversations of several servers; it keeps them, with their tokens, in
 * the localStorage key `gptme_servers`. The server that this page's script came from has the plugin
 * for certain; any other is asked.
 *
 * @typedef {object} Server
 * @property {string} base Address without a trailing slash, as in "http://localhost:5700".
 * @property {string} token Its bearer token; empty if none is known.
 * @property {string} name For people.
 */

import { Problem } from "./problems.js";

const REGISTRY = "gptme_servers";
/** How long a server may take to answer, in milliseconds. */
const ANSWER_MS = 10_000;
const API = "/api/v2/voice";
const VOICE_PATHS = /\/(?:api\/v2\/)?voice\/?$/;

/**
 * Return the server of the page at `location`.
 *
 * @param {{search: string}} location
 * @param {string | null} registry Text of `gptme_servers`.
 * @param {string} home Base address of the server this script came from.
 * @returns {Server}
 */
export function serverOf(location, registry, home) {
  const { servers, activeServerId } = parseRegistry(registry);
  const wanted = new URLSearchParams(location.search).get("server") ?? activeServerId;
  return servers.find((server) => server.id === wanted) ?? homeServer(servers, home);
}

/**
 * Return the server at an address that a person typed.
 *
 * @param {string} address As in "wss://host/voice", "https://host" or "host:5700".
 * @param {string | null} registry Text of `gptme_servers`: its token may be there.
 * @returns {Server}
 * @throws {Problem} It is no such address.
 */
export function serverAt(address, registry) {
  const typed = address.trim();
  // A page that came encrypted may not ask anybody else in clear.
  const scheme = globalThis.location?.protocol === "https:" ? "https" : "http";
  const text = /^[a-z]+:\/\//i.test(typed) ? typed : `${scheme}://${typed}`;
  let url;
  try {
    url = new URL(text.replace(/^ws/i, "http"));
  } catch {
    throw new Problem("server_address_wrong");
  }
  if (!/^https?:$/.test(url.protocol) || url.username || url.password) {
    throw new Problem("server_address_wrong");
  }
  const base = url.origin + url.pathname.replace(VOICE_PATHS, "").replace(/\/+$/, "");
  const known = parseRegistry(registry).servers.find((server) => server.base === base);
  return known ?? { base, token: "", name: url.host };
}

/**
 * Return the query with which the web UI's addresses name `server`, as it writes them itself.
 *
 * @param {Server} server
 * @param {string | null} registry Text of `gptme_servers`.
 * @param {string} home Base address of the server this script came from.
 * @returns {string | null} None if the web UI does not know the server.
 */
export function queryOf({ base, token }, registry, home) {
  const known = parseRegistry(registry).servers.filter((server) => server.base === base);
  const { id } = known.find((server) => server.token === token) ?? known[0] ?? {};
  if (id) return `?server=${encodeURIComponent(id)}`;
  return serverOf({ search: "" }, registry, home).base === base ? "" : null;
}

/**
 * Return the base address of the server a script came from.
 *
 * @param {string} scriptUrl
 */
export function baseOfScript(scriptUrl) {
  return scriptUrl.replace(/\/gptme-voice-plugin\/.*$/, "");
}

/**
 * Ask `server` to admit this page; return the address of its WebSocket, with a one-time ticket
 * where the browser would not send a cookie.
 *
 * @param {Server} server
 * @param {AbortSignal} signal
 * @param {{origin: string}} [page]
 * @returns {Promise<string>}
 * @throws {Problem} Why it does not.
 */
export async function admission(server, signal, page = globalThis.location) {
  const socket = `${server.base.replace(/^http/, "ws")}${API}`;
  if (new URL(server.base).origin === page.origin) return socket;
  const response = await ask(server, "tickets", { method: "POST", signal });
  const { ticket } = await response.json();
  return `${socket}?ticket=${encodeURIComponent(ticket)}`;
}

/**
 * Return why a session with `server` cannot be opened, as far as asking it can tell.
 *
 * @param {Server} server
 * @param {AbortSignal} [signal]
 * @returns {Promise<Problem | null>} None if it says that all is well.
 */
export async function diagnose(server, signal) {
  try {
    const status = await (await ask(server, "status", { signal })).json();
    if (status?.error?.message) return new Problem(status.error.code, status.error.message);
    // Guarded as a session is: it tells of a page that is not allowed, which a look does not.
    await ask(server, "tickets", { method: "POST", signal });
    return null;
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

/**
 * Send a request to the plugin on `server`, with what proves who we are.
 *
 * @param {Server} server
 * @param {string} path Below /api/v2/voice/.
 * @param {RequestInit} [init]
 * @returns {Promise<Response>} A good answer, in JSON.
 * @throws {Problem} Any other.
 */
export async function ask(server, path, init = {}) {
  const same = new URL(server.base).origin === globalThis.location?.origin;
  const timeout = AbortSignal.timeout(ANSWER_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
  const headers = new Headers(init.headers);
  if (server.token) headers.set("Authorization", `Bearer ${server.token}`);
  let response;
  try {
    response = await fetch(`${server.base}${API}/${path}`, {
      ...init,
      signal,
      headers,
      credentials: same ? "same-origin" : "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(same || timeout.aborted ? "server_unreachable" : "server_unasked");
  }
  if (response.status === 401 && !same && !server.token) throw new Problem("login_unknown");
  if (response.ok && response.headers.get("Content-Type")?.includes("json")) return response;
  throw await refusal(response);
}

/** @param {Response} response */
async function refusal(response) {
  /** @type {{error?: unknown, code?: unknown}} */
  let answer = {};
  try {
    answer = await response.json();
  } catch {
    // Not ours, then: a proxy's, or gptme's own page.
  }
  if (typeof answer?.code === "string" && typeof answer.error === "string") {
    return new Problem(answer.code, answer.error);
  }
  switch (response.status) {
    case 401: return new Problem("login_missing");
    case 403: return new Problem("refused");
    case 503: return new Problem("voice_off");
    case 200: case 404: case 405: return new Problem("plugin_missing");
    default: return new Problem("server_unreachable");
  }
}

/** @param {Server[]} servers @param {string} home @returns {Server} */
function homeServer(servers, home) {
  return (
    servers.find((server) => server.base === home) ?? { base: home, token: "", name: "this server" }
  );
}

/**
 * @param {string | null} text
 * @returns {{servers: (Server & {id: string})[], activeServerId: string | null}}
 */
function parseRegistry(text) {
  /** @type {any} */
  let data;
  try {
    data = JSON.parse(text ?? "null");
  } catch {
    data = null;
  }
  const entries = Array.isArray(data?.servers) ? data.servers : [];
  const servers = [];
  for (const entry of entries) {
    if (typeof entry?.id !== "string" || typeof entry.baseUrl !== "string") continue;
    const base = entry.baseUrl.replace(/\/+$/, "");
    if (!/^https?:\/\/./.test(base) || !URL.canParse(base)) continue;
    const token = entry.useAuthToken !== false && typeof entry.authToken === "string";
    const name = typeof entry.name === "string" && entry.name ? entry.name : base;
    servers.push({ id: entry.id, base, token: token ? entry.authToken : "", name });
  }
  const active = typeof data?.activeServerId === "string" ? data.activeServerId : null;
  return { servers, activeServerId: active };
}

/** @param {Storage | null} storage */
export function registryText(storage) {
  return storage?.getItem(REGISTRY) ?? null;
}
