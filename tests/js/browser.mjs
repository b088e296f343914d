/* A browser's tab without a browser: the scripts as shipped, a page, a clock and a server. */
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const STATIC = new URL("../../lock_tokens/static/lock_tokens/", import.meta.url);
export const source = (name) => readFileSync(new URL(name, STATIC), "utf8");

const idle = () => new Promise((resolve) => setImmediate(resolve));

/** Time that passes when told: for one computer, with all its tabs. */
export class Clock {
  monotonic = 5_000;
  wall = Date.parse("2026-11-22T10:00:00Z");
  timers = new Map();
  next = 1;

  set(callback, delay, every) {
    const id = this.next++;
    this.timers.set(id, { callback, at: this.monotonic + Math.max(0, delay || 0), every });
    return id;
  }

  /** Let that many milliseconds pass, with all that happens in them. */
  async advance(milliseconds) {
    const end = this.monotonic + milliseconds;
    await idle();
    for (let due = this.due(end); due; due = this.due(end)) {
      this.pass(Math.max(0, due[1].at - this.monotonic));
      this.run(...due);
      await idle();
    }
    this.pass(end - this.monotonic);
  }

  due(end) {
    const [first] = [...this.timers].sort(([, a], [, b]) => a.at - b.at);
    return first && first[1].at <= end ? first : null;
  }

  run(id, timer) {
    if (timer.every) timer.at += timer.every;
    else this.timers.delete(id);
    timer.callback();
  }

  pass(milliseconds) {
    this.monotonic += milliseconds;
    this.wall += milliseconds;
  }

  /** The lid is closed: no timer runs, and the monotonic clock may stand still. */
  sleep(milliseconds) {
    this.wall += milliseconds;
  }

  /** Somebody sets the clock. */
  setWallClock(milliseconds) {
    this.wall += milliseconds;
  }
}

/**
 * Answers in turn, the last one for ever: {status, data, timeout}, "network", "silence", or a
 * promise of one of them.
 */
export class Server {
  requests = [];
  answers = [{ status: 200, data: {} }];

  answer(...answers) {
    this.answers = answers;
  }

  fetch(url, { method, headers, body, signal, ...options }) {
    this.requests.push({
      url,
      method,
      headers: { ...headers },
      form: body && Object.fromEntries(body),
      options,
    });
    const answer = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("aborted")));
      Promise.resolve(answer).then((known) => {
        if (known === "network") reject(new TypeError("Failed to fetch"));
        else if (known !== "silence") resolve(response(known));
      });
    });
  }

  /** The requests since this was asked last. */
  take() {
    return this.requests.splice(0);
  }
}

function response({ status, data, timeout, type = "basic", redirected = false, text }) {
  return {
    status,
    type,
    redirected,
    headers: { get: (name) => (name === "Timeout" ? (timeout ?? null) : null) },
    json: async () => (text === undefined ? data : JSON.parse(text)),
  };
}

export const TO_LOGIN = { status: 0, type: "opaqueredirect" };

/** Channels between the tabs of one browser. */
export class Channels {
  open = new Set();

  constructor() {
    const { open } = this;
    this.BroadcastChannel = class extends EventTarget {
      constructor(name) {
        super();
        this.name = name;
        open.add(this);
      }

      postMessage(data) {
        for (const other of open) {
          if (other === this || other.name !== this.name) continue;
          queueMicrotask(() => {
            if (open.has(other)) other.dispatchEvent(Object.assign(new Event("message"), { data }));
          });
        }
      }

      close() {
        open.delete(this);
      }
    };
  }
}

/** A tab with a page in it. */
export class Tab {
  constructor({ html = "", clock = new Clock(), server = new Server(), channels } = {}) {
    const url = "https://site.example/article/7/?a=b#top";
    this.window = new JSDOM(html, { url, runScripts: "outside-only" }).window;
    this.document = this.window.document;
    this.clock = clock;
    this.server = server;
    this.events = [];
    this.setUpTime();
    this.define(this.document, { visibilityState: "visible", readyState: "interactive" });
    this.define(this.window, {
      fetch: (...request) => server.fetch(...request),
      BroadcastChannel: channels?.BroadcastChannel,
    });
    this.listen();
  }

  define(object, values) {
    for (const [name, value] of Object.entries(values)) {
      Object.defineProperty(object, name, { configurable: true, writable: true, value });
    }
  }

  setUpTime() {
    const { clock, window } = this;
    this.define(window, {
      setTimeout: (callback, delay) => clock.set(callback, delay),
      setInterval: (callback, delay) => clock.set(callback, delay, delay),
      clearTimeout: (id) => clock.timers.delete(id),
      performance: { now: () => clock.monotonic },
    });
    window.Date.now = () => clock.wall;
    // Back-off without jitter, at its longest.
    window.Math.random = () => 1;
  }

  listen() {
    // jsdom's own come at moments of its own; a test fires them when it wants to.
    for (const name of ["DOMContentLoaded", "load"]) {
      const stop = (event) => event.isTrusted && event.stopImmediatePropagation();
      this.window.addEventListener(name, stop, { capture: true });
    }
    for (const name of ["renewed", "lost", "offline", "clientready"]) {
      this.window.addEventListener(`lock_tokens.${name}`, ({ detail }) =>
        this.events.push([name, detail && { ...detail }]),
      );
    }
  }

  load(name, attributes = {}) {
    const script = this.document.createElement("script");
    for (const [key, value] of Object.entries(attributes)) script.setAttribute(key, value);
    this.define(this.document, { currentScript: script });
    this.window.eval(source(name));
    this.define(this.document, { currentScript: null });
    return this.window.LockTokens;
  }

  fire(target, name, values = {}) {
    const event = new this.window.Event(name, { bubbles: true, cancelable: true });
    target.dispatchEvent(Object.assign(event, values));
  }

  show(visibilityState) {
    this.define(this.document, { visibilityState });
    this.fire(this.document, "visibilitychange");
  }

  /** The events of ours since this was asked last. */
  take() {
    return this.events.splice(0);
  }
}
