/* The client of the REST API of django-lock-tokens: locks objects, and keeps them locked. */
(() => {
  const script = document.currentScript;
  const config = script ? script.dataset : {};
  // Loaded twice, say by a page's own script and for the admin: the one that is configured counts.
  const loaded = Boolean(window.lock_tokens);
  if (loaded && !config.url) return;

  // Patience in milliseconds: with an answer, between two looks at the clocks, between retries.
  const ANSWER = 15000;
  const NAP = 15000;
  const RETRY = 1000;
  const LONGEST_RETRY = 30000;
  // For an answer that does not say how long the lock lasts.
  const UNKNOWN_SECONDS = 60;

  // What Django's admin escapes in keys, so that any key fits into one part of a path.
  const quote = (key) =>
    String(key).replace(
      /[":/_#?;@&=+$,[\]<>%\n\\]/g,
      (c) => `_${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
    );

  function cookie(name) {
    const found = document.cookie.split(/; */).find((part) => part.startsWith(`${name}=`));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
  }

  const emit = (name, detail) =>
    document.dispatchEvent(new CustomEvent(`lock_tokens.${name}`, { bubbles: true, detail }));

  // Milliseconds since its creation. The monotonic clock may stand still while the computer
  // sleeps, and the other one may be set: whichever has gone further since the last look is
  // believed, so that a mistake means asking too early, never too late.
  function stopwatch() {
    let mono = performance.now();
    let wall = Date.now();
    let total = 0;
    return () => {
      const [nextMono, nextWall] = [performance.now(), Date.now()];
      total += Math.max(nextMono - mono, nextWall - wall);
      mono = nextMono;
      wall = nextWall;
      return total;
    };
  }

  // Calls back whenever time may have passed unnoticed, or the network may be back.
  function wake(callback) {
    const visible = () => document.visibilityState === "visible" && callback();
    document.addEventListener("visibilitychange", visible);
    document.addEventListener("resume", callback);
    window.addEventListener("pageshow", (event) => event.persisted && callback());
    for (const name of ["online", "focus"]) window.addEventListener(name, callback);
  }

  // Resolves to {status, data, timeout}; a redirect, such as to a login page, has status 302.
  // Rejects when there is no answer in time, or none that can be read.
  async function request(method, url, headers, options) {
    const patience = new AbortController();
    const limit = setTimeout(() => patience.abort(), ANSWER);
    try {
      return await read(await send(method, url, headers, patience.signal, options));
    } finally {
      clearTimeout(limit);
    }
  }

  const send = (method, url, headers, signal, options) =>
    fetch(url, {
      method,
      headers: { Accept: "application/json", ...headers },
      credentials: "same-origin",
      mode: "same-origin",
      cache: "no-store",
      redirect: "manual",
      signal,
      ...options,
    });

  async function read(response) {
    const redirected = response.redirected || response.type === "opaqueredirect";
    const status = redirected ? 302 : response.status;
    const data = status === 200 || status === 201 ? await response.json() : {};
    if (!data) throw new TypeError("An empty answer");
    return { status, data, timeout: response.headers.get("Timeout") };
  }

  const isTrouble = (status) => status >= 500 || [408, 425, 429].includes(status);

  function reasonOf(status) {
    if (status === 401 || (status >= 300 && status < 400)) return "logged_out";
    if (status === 403) return "forbidden";
    return status === 404 || status === 410 ? "gone" : "refused";
  }

  // Asks again and again. `ask()` gives a request; `answered(answer)` returns after how
  // many milliseconds to ask next, or null to end; `troubled(reason)` hears of every attempt
  // that brought no verdict, and is followed by another, later and later.
  function keeper(ask, answered, troubled) {
    let timer, due, waited, asking;
    let failures = 0;

    function wait(milliseconds) {
      due = milliseconds;
      waited = stopwatch();
      look();
    }

    // In naps, since a timer does not run while the computer sleeps.
    function look() {
      clearTimeout(timer);
      const left = due - waited();
      if (left <= 0) attempt();
      else timer = setTimeout(look, Math.min(left, NAP));
    }

    function retry(reason) {
      troubled(reason);
      const longest = Math.min(RETRY * 2 ** failures, LONGEST_RETRY);
      failures += 1;
      return longest * (0.5 + Math.random() / 2);
    }

    function judge(answer) {
      if (isTrouble(answer.status)) return retry("server");
      failures = 0;
      return answered(answer);
    }

    async function attempt() {
      clearTimeout(timer);
      const mine = stopwatch();
      asking = mine;
      const answer = await ask().catch(() => null);
      // Here and after the verdict: ended, or asked anew, in the meantime.
      if (asking !== mine) return;
      const next = answer ? judge(answer) : retry("network");
      if (asking !== mine) return;
      asking = null;
      if (next !== null) wait(next);
    }

    function stop() {
      clearTimeout(timer);
      asking = null;
    }

    // Ask at once, unless that has just been done.
    function poke() {
      if (!asking || asking() >= ANSWER) attempt();
    }

    return {
      wait,
      stop,
      poke,
      // Ask at once if it is time, or was and failed.
      wake: () => (failures || asking ? poke() : look()),
    };
  }

  // Out of reach of whoever prints or serialises a Token.
  const secrets = new WeakMap();

  class Token {
    constructor(app_label, model, object_id, token, expires, seconds = UNKNOWN_SECONDS) {
      Object.assign(this, { app_label, model, object_id });
      secrets.set(this, { token });
      this.renew_(expires, seconds);
    }

    renew_(expires, seconds) {
      // In the DATEFORMAT of the server: something to show, not to count with.
      this.expires = expires;
      Object.assign(secrets.get(this), { milliseconds: seconds * 1000, since: stopwatch() });
    }

    get_token() {
      return secrets.get(this).token;
    }

    seconds_left() {
      const { milliseconds, since } = secrets.get(this);
      return Math.max(0, milliseconds - since()) / 1000;
    }

    get_expiration_date() {
      return new Date(Date.now() + this.seconds_left() * 1000);
    }

    toString() {
      return `${this.app_label}.${this.model} ${this.object_id}`;
    }
  }

  function secondsOf(answer) {
    const found = /Second-(\d+)/i.exec(answer.timeout);
    return found ? Number(found[1]) : UNKNOWN_SECONDS;
  }

  // Django finds a model in any case; keys of objects differ in it.
  const keyOf = (app_label, model, object_id) => `${app_label}.${model} `.toLowerCase() + object_id;

  class LockTokens {
    constructor(options = {}) {
      this.url_ = options.base_api_url || config.url || "/lock_tokens/";
      this.header_ = config.header || "X-Lock-Token";
      this.csrf_token_ = options.csrf_token || config.csrf;
      this.csrf_header_ = options.csrf_header_name || config.csrfHeader || "X-CSRFToken";
      this.tokens_ = new Map();
      this.keepers_ = new Map();
      this.ready = Promise.resolve(this);
      wake(() => {
        for (const held of this.keepers_.values()) held.wake();
      });
    }

    async ask_(method, object, token) {
      const [app_label, model, object_id] = object;
      const parts = [app_label, model, quote(object_id)].map(encodeURIComponent);
      const headers = {};
      if (token) headers[this.header_] = token.get_token();
      const csrf = this.csrf_token_ || cookie(config.csrfCookie || "csrftoken");
      if (csrf && method !== "GET") headers[this.csrf_header_] = csrf;
      return request(method, `${this.url_.replace(/\/*$/, "/")}${parts.join("/")}/`, headers);
    }

    // Resolves to the value that the callback gets, which is null when anything goes wrong.
    async answer_(promise, callback, otherwise) {
      const value = await promise.catch(() => otherwise);
      if (callback) callback(value);
      return value;
    }

    remember_(object, { data, timeout }) {
      const token = new Token(...object, data.token, data.expires, secondsOf({ timeout }));
      this.tokens_.set(keyOf(...object), token);
      return token;
    }

    lock(app_label, model, object_id, callback) {
      const object = [app_label, model, object_id];
      const locked = this.ask_("POST", object).then((answer) =>
        answer.status === 201 ? this.remember_(object, answer) : null,
      );
      return this.answer_(locked, callback, null);
    }

    register_existing_lock_token(app_label, model, object_id, token, callback) {
      const object = [app_label, model, object_id];
      const asked = this.ask_("GET", object, new Token(...object, token));
      const registered = asked.then((answer) =>
        answer.status === 200 ? this.remember_(object, answer) : null,
      );
      return this.answer_(registered, callback, null);
    }

    renew_lock(app_label, model, object_id, callback) {
      const object = [app_label, model, object_id];
      return this.answer_(this.renew_(object), callback, null);
    }

    async renew_(object) {
      const token = this.tokens_.get(keyOf(...object));
      const answer = token && (await this.ask_("PATCH", object, token));
      if (answer?.status !== 200) return null;
      token.renew_(answer.data.expires, secondsOf(answer));
      return token;
    }

    unlock(app_label, model, object_id, callback) {
      return this.answer_(this.unlock_([app_label, model, object_id]), callback, false);
    }

    async unlock_(object) {
      const key = keyOf(...object);
      const token = this.tokens_.get(key);
      this.let_go_(key);
      if (!token) return false;
      const { status } = await this.ask_("DELETE", object, token);
      if (status === 204 || status === 404) this.tokens_.delete(key);
      return status === 204;
    }

    let_go_(key) {
      const held = this.keepers_.get(key);
      if (held) held.stop();
      this.keepers_.delete(key);
    }

    hold_lock(app_label, model, object_id, callback) {
      const object = [app_label, model, object_id];
      return this.answer_(this.hold_(object), callback, null);
    }

    async hold_(object) {
      const key = keyOf(...object);
      const find = () => this.tokens_.get(key);
      const token = find() || (await this.lock(...object)) || find() || null;
      if (token && !this.keepers_.has(key)) this.keep_(key, object);
      return token;
    }

    keep_(key, object) {
      const [app_label, model, object_id] = object;
      const about = { app_label, model, object_id };
      const current = () => this.tokens_.get(key);
      const half = () => Math.max(RETRY, current().seconds_left() * 500);
      let asked;
      let offline = false;

      const held = keeper(
        () => {
          asked = current();
          return this.ask_("PATCH", object, asked);
        },
        (answer) => {
          // Locked anew meanwhile: the answer is about a token that nobody needs any more.
          if (asked !== current()) return half();
          offline = false;
          if (answer.status !== 200) {
            this.let_go_(key);
            this.tokens_.delete(key);
            emit("lost", { ...about, reason: reasonOf(answer.status), status: answer.status });
            return null;
          }
          asked.renew_(answer.data.expires, secondsOf(answer));
          const next = half();
          // Last, since whoever hears it may unlock.
          emit("renewed", { ...about, reason: "renewed" });
          return next;
        },
        (reason) => {
          if (!offline) emit("offline", { ...about, reason });
          offline = true;
        },
      );
      this.keepers_.set(key, held);
      held.wait(half());
    }

    clear_all_locks(callback) {
      const tokens = [...this.tokens_.values()];
      const all = tokens.map((token) => this.unlock(token.app_label, token.model, token.object_id));
      // Called without arguments, as ever.
      const cleared = Promise.all(all).then(() => callback?.());
      return cleared.then(() => undefined);
    }
  }

  window.lock_tokens = {
    Token,
    LockTokens,
    cookie,
    emit,
    keeper,
    reasonOf,
    request,
    stopwatch,
    wake,
  };
  window.LockTokens = new LockTokens();

  // When every script of the page has had its turn, so that none misses it. One that comes later
  // still has `LockTokens.ready`.
  let announced = false;
  function announce() {
    if (!announced) emit("clientready");
    announced = true;
  }
  if (loaded) return;
  if (document.readyState === "complete") setTimeout(announce);
  else {
    document.addEventListener("DOMContentLoaded", announce);
    window.addEventListener("load", announce);
  }
})();
