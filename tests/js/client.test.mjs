import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { source, Tab, TO_LOGIN } from "./browser.mjs";

const TOKEN = "0123456789abcdef0123456789abcdef";
const OBJECT = ["news", "article", 7];
const ABOUT = { app_label: "news", model: "article", object_id: 7 };
const URL_7 = "/api/locks/news/article/7/";
const SECOND = 1000;
const HOUR = 3600 * SECOND;

const lease = (seconds = 60, expires = "2026-11-22 10:01:00 UTC", status = 200) => ({
  status,
  data: { token: TOKEN, expires },
  timeout: `Second-${seconds}`,
});
const taken = (...args) => ({ ...lease(...args), status: 201 });
const refusal = (status) => ({ status, data: { detail: "No." } });

function open(attributes = {}) {
  const tab = new Tab();
  const settings = { "data-url": "/api/locks/", "data-csrf": "c5rf", ...attributes };
  tab.client = tab.load("client.js", settings);
  return tab;
}

async function holding(seconds = 60) {
  const tab = open();
  tab.server.answer(taken(seconds), lease(seconds));
  await tab.client.hold_lock(...OBJECT);
  tab.server.take();
  return tab;
}

/** Call a method of the client with a callback; what the callback got must be what is promised. */
async function call(tab, method, ...args) {
  let given;
  const promised = await tab.client[method](...args, (value) => {
    given = value;
  });
  assert.equal(given, promised);
  return promised;
}

test("the client is shipped in less than five kilobytes", () => {
  assert.ok(gzipSync(source("client.js"), { level: 9 }).length < 5000);
});

test("the client runs under a strict policy, without a line that it would have to forbid", () => {
  for (const name of ["client.js", "page.js"]) {
    assert.doesNotMatch(
      source(name),
      /\beval\(|new Function|innerHTML|\.style\b|"style"|\bon\w+ =/,
    );
  }
});

test("locking posts to the object's address and hands out a token", async () => {
  const tab = open();
  tab.server.answer(taken());
  const token = await call(tab, "lock", ...OBJECT);

  const [{ url, method, headers }] = tab.server.take();
  assert.deepEqual([method, url], ["POST", URL_7]);
  assert.deepEqual(headers, { Accept: "application/json", "X-CSRFToken": "c5rf" });
  assert.ok(token instanceof tab.window.lock_tokens.Token);
  assert.equal(token.get_token(), TOKEN);
  assert.equal(token.expires, "2026-11-22 10:01:00 UTC");
});

test("requests carry no cookie to other sites and follow no redirect", async () => {
  const tab = open();
  await tab.client.lock(...OBJECT);
  const [{ options }] = tab.server.take();
  const { credentials, mode, redirect, cache } = options;
  assert.deepEqual(
    { credentials, mode, redirect, cache },
    { credentials: "same-origin", mode: "same-origin", redirect: "manual", cache: "no-store" },
  );
});

for (const [key, path] of [
  ["A/b c", "A_2Fb%20c"],
  ["a_b", "a_5Fb"],
  ["50%\n", "50_25_0A"],
  ["日本", "%E6%97%A5%E6%9C%AC"],
  [`":/_#?;@&=+$,"[]<>%\\`, "_22_3A_2F_5F_23_3F_3B_40_26_3D_2B_24_2C_22_5B_5D_3C_3E_25_5C"],
]) {
  test(`the key ${JSON.stringify(key)} is quoted as the admin quotes it`, async () => {
    const tab = open();
    await tab.client.lock("news", "article", key);
    assert.equal(tab.server.take()[0].url, `/api/locks/news/article/${path}/`);
  });
}

test("a key that no address can spell is refused like any other", async () => {
  const tab = open();
  assert.equal(await call(tab, "lock", "news", "article", "\ud800"), null);
});

test("keys that differ in case are different objects", async () => {
  const tab = open();
  tab.server.answer(taken());
  await tab.client.lock("news", "article", "a");
  assert.equal(await call(tab, "unlock", "news", "article", "A"), false);
  tab.server.answer({ status: 204 });
  assert.equal(await call(tab, "unlock", "news", "Article", "a"), true);
});

test("the CSRF token comes from the cookie when the page names none", async () => {
  const tab = open({ "data-csrf": "", "data-csrf-cookie": "crumb", "data-csrf-header": "X-Crumb" });
  tab.document.cookie = "crumble=no";
  tab.document.cookie = "crumb=a%20b";
  await tab.client.lock(...OBJECT);
  assert.equal(tab.server.take()[0].headers["X-Crumb"], "a b");
});

test("an existing token is registered through the header, and never in an address", async () => {
  const tab = open({ "data-header": "X-My-Lock" });
  tab.server.answer(lease());
  const token = await call(tab, "register_existing_lock_token", ...OBJECT, TOKEN);

  const [{ url, method, headers }] = tab.server.take();
  assert.deepEqual([method, url], ["GET", URL_7]);
  assert.deepEqual(headers, { Accept: "application/json", "X-My-Lock": TOKEN });
  assert.equal(token.get_token(), TOKEN);
});

test("unlocking brings the token in the header and forgets it", async () => {
  const tab = open();
  tab.server.answer(taken(), { status: 204 });
  await tab.client.lock(...OBJECT);
  tab.server.take();
  assert.equal(await call(tab, "unlock", ...OBJECT), true);

  const [{ url, method, headers }] = tab.server.take();
  assert.deepEqual([method, url, headers["X-Lock-Token"]], ["DELETE", URL_7, TOKEN]);
  assert.equal(await call(tab, "unlock", ...OBJECT), false);
  assert.deepEqual(tab.server.take(), []);
});

for (const answer of [
  ...[400, 401, 403, 404, 409, 412, 423, 428, 429, 500, 503].map(refusal),
  TO_LOGIN,
  "network",
  { status: 200, text: "<html>" },
  { status: 201, text: "<html>" },
  { status: 201, data: null },
]) {
  const name = typeof answer === "string" ? answer : JSON.stringify(answer);
  test(`an ordinary refusal is null, not an error: ${name}`, async () => {
    const tab = open();
    tab.server.answer(answer);
    assert.equal(await call(tab, "lock", ...OBJECT), null);
    assert.equal(await call(tab, "register_existing_lock_token", ...OBJECT, TOKEN), null);
    assert.equal(await call(tab, "hold_lock", ...OBJECT), null);
    tab.server.answer(taken(), answer);
    await tab.client.lock(...OBJECT);
    assert.equal(await call(tab, "renew_lock", ...OBJECT), null);
    assert.equal(await call(tab, "unlock", ...OBJECT), false);
  });
}

test("a request that is never answered ends after fifteen seconds", async () => {
  const tab = open();
  tab.server.answer("silence");
  const promise = tab.client.lock(...OBJECT);
  await tab.clock.advance(15 * SECOND);
  assert.equal(await promise, null);
});

test("all locks are released at once, and the callback gets nothing", async () => {
  const tab = open();
  tab.server.answer(taken());
  await tab.client.lock(...OBJECT);
  await tab.client.hold_lock("news", "article", 8);
  tab.server.take();
  tab.server.answer({ status: 204 });
  const given = [];
  await tab.client.clear_all_locks((...args) => given.push(args));

  const asked = tab.server.take().map(({ method, url }) => `${method} ${url}`);
  assert.deepEqual(asked, [`DELETE ${URL_7}`, "DELETE /api/locks/news/article/8/"]);
  assert.deepEqual(given, [[]]);
  await tab.clock.advance(HOUR);
  assert.deepEqual(tab.server.take(), []);
});

test("releasing all of no locks calls back too", async () => {
  let called = 0;
  await open().client.clear_all_locks(() => {
    called += 1;
  });
  assert.equal(called, 1);
});

test("a token is shown by nothing but get_token", async () => {
  const tab = await holding();
  const token = await tab.client.hold_lock(...OBJECT);
  await tab.clock.advance(30 * SECOND);
  tab.server.answer(refusal(403));
  await tab.clock.advance(30 * SECOND);
  assert.equal(String(token), "news.article 7");
  assert.equal(tab.take().length, 2);
  for (const text of [JSON.stringify(token), JSON.stringify(tab.events), String(token)]) {
    assert.doesNotMatch(text, new RegExp(TOKEN));
  }
  for (const { url } of tab.server.take()) assert.doesNotMatch(url, new RegExp(TOKEN));
});

for (const expires of ["22.11.26", "", "十時", "0", "9999-99-99T99:99", null]) {
  test(`expiry is counted from the header whatever the date looks like: ${expires}`, async () => {
    const tab = open();
    tab.server.answer(taken(60, expires), lease(60, expires));
    const token = await tab.client.hold_lock(...OBJECT);
    assert.equal(token.expires, expires);
    tab.server.take();
    await tab.clock.advance(29 * SECOND);
    assert.equal(token.seconds_left(), 31);
    assert.equal(token.get_expiration_date().getTime(), tab.clock.wall + 31 * SECOND);
    assert.deepEqual(tab.server.take(), []);
    await tab.clock.advance(SECOND);
    assert.deepEqual(
      tab.server.take().map(({ method, url }) => [method, url]),
      [["PATCH", URL_7]],
    );
  });
}

test("a lock of unknown length is renewed after half a minute", async () => {
  const tab = open();
  tab.server.answer({ ...taken(), timeout: null }, { ...lease(), timeout: "Infinite" });
  await tab.client.hold_lock(...OBJECT);
  tab.server.take();
  await tab.clock.advance(29 * SECOND);
  assert.equal(tab.server.take().length, 0);
  await tab.clock.advance(SECOND);
  assert.equal(tab.server.take().length, 1);
});

test("holding renews at half time, again and again, and says so", async () => {
  const tab = await holding(60);
  await tab.clock.advance(100 * SECOND);
  assert.equal(tab.server.take().length, 3);
  assert.deepEqual(tab.take(), Array(3).fill(["renewed", { ...ABOUT, reason: "renewed" }]));
});

test("a lock of weeks is renewed at half time, though no timer runs that long", async () => {
  const tab = await holding(60 * 24 * 3600);
  await tab.clock.advance(30 * 24 * HOUR - SECOND);
  assert.equal(tab.server.take().length, 0);
  await tab.clock.advance(SECOND);
  assert.equal(tab.server.take().length, 1);
});

test("a lock of no time is not renewed more than once a second", async () => {
  const tab = await holding(0);
  await tab.clock.advance(10 * SECOND);
  assert.equal(tab.server.take().length, 10);
});

for (const hours of [-13, -1, 1, 13]) {
  test(`a clock set by ${hours} hours loses no lock and floods no server`, async () => {
    const tab = await holding(600);
    await tab.clock.advance(100 * SECOND);
    tab.clock.setWallClock(hours * HOUR);
    await tab.clock.advance(800 * SECOND);
    const asked = tab.server.take().length;
    assert.ok(asked >= 2 && asked <= 3, `${asked} renewals`);
    assert.deepEqual(new Set(tab.take().map(([name]) => name)), new Set(["renewed"]));
  });
}

test("a clock set back before a sleep does not hide the sleep", async () => {
  const tab = await holding(600);
  tab.clock.setWallClock(-2 * HOUR);
  await tab.clock.advance(15 * SECOND);
  tab.clock.sleep(HOUR);
  await tab.clock.advance(15 * SECOND);
  assert.equal(tab.server.take().length, 1);
});

test("the lock is renewed within seconds of a sleep, even if nothing tells of the waking", async () => {
  const tab = await holding(3600);
  await tab.clock.advance(SECOND);
  tab.clock.sleep(HOUR);
  await tab.clock.advance(15 * SECOND);
  assert.equal(tab.server.take().length, 1);
});

const WAKERS = {
  online: (tab) => tab.fire(tab.window, "online"),
  focus: (tab) => tab.fire(tab.window, "focus"),
  resume: (tab) => tab.fire(tab.document, "resume"),
  "a visible page": (tab) => tab.show("visible"),
  "the back/forward cache": (tab) => tab.fire(tab.window, "pageshow", { persisted: true }),
};

for (const [name, happen] of Object.entries(WAKERS)) {
  test(`${name} wakes the holder at once after a sleep, and does not before half time`, async () => {
    const tab = await holding(3600);
    happen(tab);
    await tab.clock.advance(0);
    assert.equal(tab.server.take().length, 0);
    tab.clock.sleep(HOUR);
    happen(tab);
    await tab.clock.advance(0);
    assert.equal(tab.server.take().length, 1);
  });

  test(`${name} cuts the wait for the next attempt short`, async () => {
    const tab = await holding(60);
    tab.server.answer("network");
    await tab.clock.advance(90 * SECOND);
    tab.server.take();
    happen(tab);
    await tab.clock.advance(0);
    assert.equal(tab.server.take().length, 1);
  });
}

test("a page that is hidden wakes nobody", async () => {
  const tab = await holding(3600);
  tab.clock.sleep(HOUR);
  tab.show("hidden");
  await tab.clock.advance(0);
  assert.equal(tab.server.take().length, 0);
});

test("a request that was out during a sleep is given up for a new one", async () => {
  const tab = await holding(60);
  tab.server.answer("silence");
  await tab.clock.advance(30 * SECOND);
  tab.server.answer(lease());
  tab.clock.sleep(HOUR);
  tab.fire(tab.window, "focus");
  await tab.clock.advance(0);
  assert.equal(tab.server.take().length, 2);
  assert.deepEqual(
    tab.take().map(([name]) => name),
    ["renewed"],
  );
});

for (const [status, reason] of [
  [400, "refused"],
  [401, "logged_out"],
  [302, "logged_out"],
  [403, "forbidden"],
  [404, "gone"],
  [409, "refused"],
  [410, "gone"],
  [412, "refused"],
  [423, "refused"],
]) {
  test(`a definite no, ${status}, ends the holding: ${reason}`, async () => {
    const tab = await holding(60);
    tab.server.answer(refusal(status));
    await tab.clock.advance(HOUR);
    assert.equal(tab.server.take().length, 1);
    assert.deepEqual(tab.take(), [["lost", { ...ABOUT, reason, status }]]);
    assert.equal(await tab.client.unlock(...OBJECT), false);
    assert.equal(tab.server.take().length, 0);
  });
}

for (const [name, answer] of [
  ["being sent to a login page", TO_LOGIN],
  ["having been led to one", { status: 200, redirected: true, text: "<html>" }],
]) {
  test(`${name} ends the holding`, async () => {
    const tab = await holding(60);
    tab.server.answer(answer);
    await tab.clock.advance(HOUR);
    assert.equal(tab.server.take().length, 1);
    assert.deepEqual(tab.take(), [["lost", { ...ABOUT, reason: "logged_out", status: 302 }]]);
  });
}

for (const [name, answer, reason] of [
  ["no network", "network", "network"],
  ["no answer", "silence", "network"],
  ["a page instead of JSON", { status: 200, text: "<html>" }, "network"],
  ["null instead of a token", { status: 200, data: null }, "network"],
  ["408", refusal(408), "server"],
  ["429", refusal(429), "server"],
  ["500", refusal(500), "server"],
  ["502", refusal(502), "server"],
  ["503", refusal(503), "server"],
]) {
  test(`${name} is told once, and tried again until there is a verdict`, async () => {
    const tab = await holding(60);
    tab.server.answer(answer);
    await tab.clock.advance(HOUR);
    assert.ok(tab.server.take().length > 60);
    assert.deepEqual(tab.take(), [["offline", { ...ABOUT, reason }]]);
    tab.server.answer(lease());
    await tab.clock.advance(45 * SECOND);
    assert.deepEqual(tab.take()[0], ["renewed", { ...ABOUT, reason: "renewed" }]);
  });
}

for (const [jitter, delays] of [
  [1, [1, 2, 4, 8, 16, 30, 30]],
  [0, [0.5, 1, 2, 4, 8, 15, 15]],
]) {
  test(`attempts come later and later, with a jitter of ${jitter}`, async () => {
    const tab = await holding(60);
    tab.window.Math.random = () => jitter;
    tab.server.answer("network");
    await tab.clock.advance(30 * SECOND);
    for (const delay of delays) {
      assert.equal(tab.server.take().length, 1);
      await tab.clock.advance(delay * SECOND - 1);
      assert.equal(tab.server.take().length, 0);
      await tab.clock.advance(1);
    }
    tab.server.answer(lease(), "network");
    await tab.clock.advance(30 * SECOND);
    tab.server.take();
    await tab.clock.advance(30 * SECOND + delays[0] * SECOND);
    assert.ok(tab.server.take().length >= 2);
  });
}

test("unlocking ends the holding, whatever comes of a renewal that is under way", async () => {
  const tab = await holding(60);
  tab.server.answer("silence", { status: 204 });
  await tab.clock.advance(30 * SECOND);
  assert.equal(await tab.client.unlock(...OBJECT), true);
  tab.server.take();
  await tab.clock.advance(HOUR);
  assert.equal(tab.server.take().length, 0);
  assert.deepEqual(tab.take(), []);
});

for (const answer of ["network", refusal(503), refusal(403)]) {
  test(`a release that failed can be tried again: ${answer.status || answer}`, async () => {
    const tab = await holding(60);
    tab.server.answer(answer, { status: 204 });
    assert.equal(await tab.client.unlock(...OBJECT), false);
    assert.equal(await tab.client.unlock(...OBJECT), true);
  });
}

test("each outage is told", async () => {
  const tab = await holding(60);
  tab.server.answer("network", lease(), "network", lease());
  await tab.clock.advance(100 * SECOND);
  const names = tab.take().map(([name]) => name);
  assert.deepEqual(names.slice(0, 4), ["offline", "renewed", "offline", "renewed"]);
});

test("unlocking in the moment of a renewal ends the holding too", async () => {
  const tab = await holding(60);
  tab.server.answer(lease(), { status: 204 });
  tab.document.addEventListener("lock_tokens.renewed", () => tab.client.unlock(...OBJECT));
  await tab.clock.advance(HOUR);
  assert.deepEqual(
    tab.server.take().map(({ method }) => method),
    ["PATCH", "DELETE"],
  );
});

test("holding twice is holding once", async () => {
  const tab = open();
  tab.server.answer(taken(), refusal(403));
  const both = [tab.client.hold_lock(...OBJECT), tab.client.hold_lock(...OBJECT)];
  const [first, second] = await Promise.all(both);
  assert.equal(first.get_token(), TOKEN);
  assert.equal(second, first);
  tab.server.take();
  tab.server.answer(lease());
  await tab.clock.advance(30 * SECOND);
  assert.equal(tab.server.take().length, 1);
});

test("a registered token is held without being taken again", async () => {
  const tab = open();
  tab.server.answer(lease());
  await tab.client.register_existing_lock_token(...OBJECT, TOKEN);
  await tab.client.hold_lock(...OBJECT);
  assert.deepEqual(
    tab.server.take().map(({ method }) => method),
    ["GET"],
  );
  await tab.clock.advance(30 * SECOND);
  assert.deepEqual(
    tab.server.take().map(({ method }) => method),
    ["PATCH"],
  );
});

test("a refusal of the old token does not end the holding of a new one", async () => {
  const tab = await holding(60);
  let refuse;
  const late = new Promise((resolve) => {
    refuse = () => resolve(refusal(403));
  });
  tab.server.answer(late);
  await tab.clock.advance(30 * SECOND);
  tab.server.answer(taken(60), lease(60));
  await tab.client.lock(...OBJECT);
  tab.server.take();
  refuse();
  await tab.clock.advance(30 * SECOND);
  assert.deepEqual(
    tab.server.take().map(({ method }) => method),
    ["PATCH"],
  );
  assert.deepEqual(
    tab.take().map(([name]) => name),
    ["renewed"],
  );
});

test("the client is announced once, when every script of the page has run", async () => {
  const tab = open();
  await tab.clock.advance(SECOND);
  assert.deepEqual(tab.take(), []);
  tab.fire(tab.document, "DOMContentLoaded");
  tab.fire(tab.window, "load");
  assert.deepEqual(
    tab.take().map(([name]) => name),
    ["clientready"],
  );
  assert.equal(await tab.client.ready, tab.client);
});

for (const [name, ...urls] of [
  ["the first", "/api/", undefined],
  ["the second", undefined, "/api/"],
]) {
  test(`of two client scripts the one that is configured counts: ${name}`, async () => {
    const tab = new Tab();
    for (const url of urls) tab.load("client.js", url ? { "data-url": url } : {});
    await tab.window.LockTokens.lock(...OBJECT);
    assert.equal(tab.server.take()[0].url, "/api/news/article/7/");
    tab.fire(tab.document, "DOMContentLoaded");
    assert.equal(tab.take().length, 1);
  });
}

test("a client that is loaded late announces itself too", async () => {
  const tab = new Tab();
  tab.define(tab.document, { readyState: "complete" });
  tab.load("client.js");
  assert.deepEqual(tab.take(), []);
  await tab.clock.advance(0);
  assert.deepEqual(
    tab.take().map(([name]) => name),
    ["clientready"],
  );
});

test("without settings the client asks where the package's documentation mounts the API", async () => {
  const tab = new Tab();
  await tab.load("client.js").lock(...OBJECT);
  assert.equal(tab.server.take()[0].url, "/lock_tokens/news/article/7/");
});

test("a client of one's own takes its settings as it always did", async () => {
  const tab = open();
  const options = { base_api_url: "/other", csrf_token: "mine", csrf_header_name: "X-Mine" };
  const client = new tab.window.lock_tokens.LockTokens(options);
  await client.lock(...OBJECT);
  const [{ url, headers }] = tab.server.take();
  assert.deepEqual([url, headers["X-Mine"]], ["/other/news/article/7/", "mine"]);
});
