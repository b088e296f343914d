import assert from "node:assert/strict";
import { test } from "node:test";
import { Channels, Clock, Server, Tab, TO_LOGIN } from "./browser.mjs";

const TOKEN = "0123456789abcdef0123456789abcdef";
const LOCK_URL = "/article/7/lock/";
const SECOND = 1000;
const MINUTE = 60 * SECOND;

const MESSAGES = {
  countdown: "The lock has {time} left.",
  free: "It is free now.",
  free_typed: "It is free now. Save again.",
  edit: "Edit now",
  idle: "You are away. Your lock ends in {time}.",
  idle_over: "You are away and your lock has ended.",
  go_on: "Go on editing",
  offline: "No connection.",
  online: "The connection is back, and the lock is yours.",
  back: "The connection is back.",
  logged_out: "You are logged out.",
  forbidden: "You may not edit this any more.",
  trouble: "The server has trouble.",
  copy: "Copy my text",
  copied: "Copied.",
  reload: "Open it afresh",
};

const PAGE = `
  <main><div id="content-main"><p>First</p>
    <form method="post">
      <input type="hidden" name="csrfmiddlewaretoken" value="old-csrf">
      <input type="hidden" name="lock_token" value="${TOKEN}">
      <label for="t">Title: </label><input id="t" name="title" value="A title">
      <textarea name="body" aria-label="Body">Line 1\nLine 2</textarea>
      <input name="empty"><input name="unseen" value="x" hidden>
      <input type="password" name="password" value="secret"><input type="checkbox" name="c" checked>
      <button>Save</button>
    </form>
    <form method="post" id="other"><input name="elsewhere" value="not locked"></form>
  </div></main>`;

const held = (seconds = 600, renewed = "s1", more = {}) => ({
  status: 200,
  data: { state: "held", seconds, renewed, by: null, since: null, until: null, ...more },
});
const lost = (message = "Bob has taken over.") => ({
  status: 200,
  data: { state: "lost", seconds: 0, renewed: null, message },
});
const locked = (seconds = 600, by = "bob", message = `${by} is editing.`) => ({
  status: 200,
  data: { state: "locked", seconds, renewed: null, by, message },
});
const FREE = { status: 200, data: { state: "free", seconds: 0, renewed: null, by: null } };
const refusal = (status) => ({ status, data: {} });

function open(state, { html = PAGE, attributes = {}, ...tabOptions } = {}) {
  const tab = new Tab({ html, ...tabOptions });
  Object.assign(tab, { copied: [], onLine: true });
  const clipboard = { writeText: async (text) => tab.copied.push(text) };
  tab.define(tab.window.navigator, { clipboard, onLine: true });
  tab.window.Element.prototype.checkVisibility = function () {
    return !this.closest("[hidden]");
  };
  tab.load("client.js");
  const own = state === "held" ? { "data-token": TOKEN, "data-renewed": "s1" } : {};
  tab.load("page.js", {
    "data-url": LOCK_URL,
    "data-state": state,
    "data-seconds": "600",
    "data-field": "lock_token",
    "data-messages": JSON.stringify(MESSAGES),
    ...own,
    ...attributes,
  });
  return tab;
}

function editing(options = {}) {
  const server = new Server();
  server.answer(held());
  const tab = open("held", { server, ...options });
  return tab;
}

function reading(options = {}) {
  const server = new Server();
  server.answer(locked());
  return open("locked", { server, ...options });
}

const find = (tab, selector) => tab.document.querySelector(selector);
const banner = (tab) => find(tab, "[data-lock-tokens-banner]");
const said = (tab) => find(tab, "[role=status]").textContent;
const alerted = (tab) => find(tab, "[role=alert]").textContent;
const buttons = (tab) =>
  [...tab.document.querySelectorAll(".lock-tokens-button")].map((one) => one.textContent);
const actions = (tab) =>
  tab.server.take().map(({ method, form }) => (method === "POST" ? form.action : method));
const press = (tab, text) =>
  [...tab.document.querySelectorAll(".lock-tokens-button")]
    .find((one) => one.textContent === text)
    .click();
const type = (tab) => tab.fire(find(tab, "#t"), "input");
const shown = (iso, lang) =>
  new Date(iso).toLocaleString(lang, { dateStyle: "medium", timeStyle: "short" });
const goAway = (tab, persisted) => tab.fire(tab.window, "pagehide", { persisted });
const comeBack = (tab) => tab.fire(tab.window, "pageshow", { persisted: true });

async function goOffline(tab) {
  tab.server.answer("network");
  tab.define(tab.window.navigator, { onLine: false });
  tab.fire(tab.window, "offline");
  await tab.clock.advance(0);
}

async function goOnline(tab, ...answers) {
  tab.server.answer(...answers);
  tab.define(tab.window.navigator, { onLine: true });
  tab.fire(tab.window, "online");
  await tab.clock.advance(0);
}

// An editor's page ------------------------------------------------------------------------------

test("an editor's page renews every five seconds, with the token in the header only", async () => {
  const tab = editing();
  await tab.clock.advance(5 * SECOND - 1);
  assert.deepEqual(tab.server.take(), []);
  await tab.clock.advance(1);
  const [{ url, method, headers, form }] = tab.server.take();
  assert.deepEqual([method, url], ["POST", LOCK_URL]);
  assert.deepEqual(form, { action: "renew", renewed: "s1" });
  assert.equal(headers["X-Lock-Token"], TOKEN);
  assert.equal(headers["X-CSRFToken"], "old-csrf");
  await tab.clock.advance(60 * SECOND);
  assert.equal(tab.server.take().length, 12);
});

test("a page that has just been loaded asks nothing", async () => {
  const tab = editing();
  tab.fire(tab.window, "pageshow", { persisted: false });
  await tab.clock.advance(0);
  assert.deepEqual(tab.server.take(), []);
});

test("an editor's page is quiet while all is well", async () => {
  const tab = editing();
  await tab.clock.advance(MINUTE);
  assert.deepEqual([said(tab), alerted(tab), buttons(tab)], ["", "", []]);
  assert.ok(banner(tab).classList.contains("lock-tokens-quiet"));
});

test("a lock that is shorter than the interval is renewed in time", async () => {
  const tab = editing({ attributes: { "data-seconds": "4" } });
  tab.server.answer(held(4));
  await tab.clock.advance(10 * SECOND);
  assert.equal(tab.server.take().length, 10);
});

test("a hidden page asks less often, yet in time for its lock", async () => {
  const tab = editing();
  tab.show("hidden");
  await tab.clock.advance(5 * SECOND);
  tab.server.take();
  await tab.clock.advance(MINUTE);
  assert.equal(tab.server.take().length, 2);
  tab.server.answer(held(60));
  await tab.clock.advance(30 * SECOND);
  tab.server.take();
  await tab.clock.advance(MINUTE);
  assert.equal(tab.server.take().length, 4);
});

test("a page that is looked at again asks at once", async () => {
  const tab = editing();
  tab.show("hidden");
  await tab.clock.advance(6 * SECOND);
  tab.server.take();
  tab.show("visible");
  await tab.clock.advance(0);
  assert.deepEqual(actions(tab), ["renew"]);
});

test("the renewal of a lock is told once for each", async () => {
  const tab = editing();
  tab.server.answer(held(), held(), held(600, "s2"), held(600, "s2"));
  await tab.clock.advance(20 * SECOND);
  assert.deepEqual(tab.take(), [["renewed", { url: LOCK_URL, reason: "renewed" }]]);
});

test("the evicted are told within ten seconds, loudly, and the page asks no more", async () => {
  const tab = editing();
  await tab.clock.advance(2 * SECOND);
  tab.server.answer(lost());
  await tab.clock.advance(8 * SECOND);
  assert.equal(alerted(tab), "Bob has taken over.");
  assert.deepEqual(buttons(tab), ["Copy my text", "Open it afresh"]);
  assert.deepEqual(tab.take(), [["lost", { url: LOCK_URL, reason: "lost" }]]);
  tab.server.take();
  await tab.clock.advance(MINUTE);
  tab.fire(tab.window, "focus");
  goAway(tab, false);
  assert.deepEqual(tab.server.take(), []);
});

test("the evicted are told the time in their own zone", async () => {
  const tab = editing();
  const answer = lost("At {since} Bob took over.");
  answer.data.since = "2026-11-22T10:00:00Z";
  tab.server.answer(answer);
  await tab.clock.advance(5 * SECOND);
  assert.equal(alerted(tab), `At ${shown(answer.data.since)} Bob took over.`);
});

test("the evicted can copy what they typed, with labels, and no secrets", async () => {
  const tab = editing();
  tab.server.answer(lost());
  await tab.clock.advance(5 * SECOND);
  press(tab, "Copy my text");
  await tab.clock.advance(0);
  assert.deepEqual(tab.copied, ["Title:\nA title\n\nBody:\nLine 1\nLine 2\n"]);
  assert.equal(said(tab), "Copied.");
  assert.equal(alerted(tab), "Bob has taken over.");
});

test("where the browser forbids copying, the text is there to be copied by hand", async () => {
  const tab = editing();
  tab.server.answer(lost());
  await tab.clock.advance(5 * SECOND);
  tab.window.navigator.clipboard.writeText = async () => {
    throw new Error("NotAllowedError");
  };
  press(tab, "Copy my text");
  await tab.clock.advance(0);
  const area = find(tab, ".lock-tokens-copy");
  assert.equal(area.value, "Title:\nA title\n\nBody:\nLine 1\nLine 2\n");
  assert.equal(area.getAttribute("aria-label"), "Copy my text");
  assert.deepEqual(tab.document.activeElement, area);
});

test("where the browser cannot copy, it does not offer to", async () => {
  const server = new Server();
  server.answer(lost());
  const tab = new Tab({ html: PAGE, server });
  tab.load("client.js");
  tab.load("page.js", {
    "data-url": LOCK_URL,
    "data-state": "held",
    "data-messages": JSON.stringify(MESSAGES),
  });
  await tab.clock.advance(5 * SECOND);
  assert.deepEqual(buttons(tab), ["Open it afresh"]);
});

for (const [name, act, target] of [
  ["in the same tab while nothing is typed", () => {}, ""],
  ["in another tab rather than at the cost of what is typed", type, "_blank"],
]) {
  test(`the page is opened afresh ${name}`, async () => {
    const tab = editing();
    act(tab);
    tab.server.answer(lost());
    await tab.clock.advance(5 * SECOND);
    const link = find(tab, "a.lock-tokens-button");
    link.addEventListener("click", (event) => event.preventDefault());
    link.click();
    assert.equal(link.getAttribute("href"), "/article/7/?a=b");
    assert.equal(link.target, target);
  });
}

test("what is told of a name is text, whatever the name is", async () => {
  const tab = editing();
  tab.server.answer(lost("<img src=x onerror=alert(1)> has taken over."));
  await tab.clock.advance(5 * SECOND);
  assert.equal(alerted(tab), "<img src=x onerror=alert(1)> has taken over.");
  assert.equal(find(tab, "img"), null);
});

test("a save that is on its way is no loss", async () => {
  const tab = editing();
  tab.fire(find(tab, "form"), "submit");
  tab.server.answer(lost());
  await tab.clock.advance(9 * SECOND);
  assert.equal(alerted(tab), "");
  await tab.clock.advance(2 * SECOND);
  assert.equal(alerted(tab), "Bob has taken over.");
});

test("a form that was not sent after all hides no loss", async () => {
  const tab = editing();
  find(tab, "form").addEventListener("submit", (event) => event.preventDefault());
  tab.fire(find(tab, "form"), "submit");
  tab.server.answer(lost());
  await tab.clock.advance(5 * SECOND);
  assert.equal(alerted(tab), "Bob has taken over.");
});

test("forms that lack the token get it where the page asks for it", () => {
  const attributes = { "data-fill": "form" };
  const tab = editing({ attributes });
  const values = [...tab.document.querySelectorAll("[name=lock_token]")].map(({ value }) => value);
  assert.deepEqual(values, [TOKEN, TOKEN]);
  assert.equal(editing().document.querySelectorAll("[name=lock_token]").length, 1);
});

// Away from the keyboard ------------------------------------------------------------------------

const idling = () => editing({ attributes: { "data-idle": "900" } });

test("after the idle time the lock is not renewed, and the page says so", async () => {
  const tab = idling();
  await tab.clock.advance(895 * SECOND);
  assert.deepEqual(new Set(actions(tab)), new Set(["renew"]));
  tab.server.answer(held(300));
  await tab.clock.advance(10 * SECOND);
  assert.deepEqual(actions(tab), ["watch", "watch"]);
  assert.equal(said(tab), "You are away. Your lock ends in 5:00.");
  assert.deepEqual(buttons(tab), ["Go on editing"]);
  await tab.clock.advance(1);
  assert.equal(alerted(tab), "");
});

test("the countdown counts, and only the first of it is announced", async () => {
  const tab = idling();
  await tab.clock.advance(900 * SECOND);
  tab.server.answer("silence");
  await tab.clock.advance(SECOND);
  const text = find(tab, "[role=status]");
  const timer = find(tab, "[role=timer]");
  const before = [text.firstChild, timer.textContent];
  await tab.clock.advance(3 * SECOND);
  assert.equal(text.firstChild, before[0]);
  assert.notEqual(timer.textContent, before[1]);
  assert.equal(timer.getAttribute("aria-live"), "off");
});

test("what another session does to the lock of an idle page is no renewal of the page's", async () => {
  const tab = idling();
  await tab.clock.advance(900 * SECOND);
  tab.take();
  tab.server.answer(held(3, "s2"));
  await tab.clock.advance(10 * SECOND);
  assert.deepEqual(tab.take(), []);
});

test("a lock that ends while its editor is away is said to have ended", async () => {
  const tab = idling();
  await tab.clock.advance(895 * SECOND);
  tab.server.answer(held(0));
  await tab.clock.advance(10 * SECOND);
  assert.equal(said(tab), "You are away and your lock has ended.");
  assert.deepEqual(buttons(tab), ["Go on editing"]);
  assert.deepEqual(new Set(actions(tab).slice(-1)), new Set(["watch"]));
});

const RETURNS = {
  "the button": (tab) => press(tab, "Go on editing"),
  typing: type,
  "a key": (tab) => tab.fire(tab.document.body, "keydown"),
  "a click anywhere": (tab) => tab.fire(tab.document.body, "pointerdown"),
  "looking at the page again": (tab) => tab.show("visible"),
};

for (const [name, act] of Object.entries(RETURNS)) {
  test(`${name} ends the idle time, and renews at once`, async () => {
    const tab = idling();
    await tab.clock.advance(902 * SECOND);
    tab.server.take();
    act(tab);
    await tab.clock.advance(0);
    assert.deepEqual(actions(tab), ["renew"]);
    assert.deepEqual([said(tab), buttons(tab)], ["", []]);
  });
}

test("who goes on learns when somebody has taken over meanwhile", async () => {
  const tab = idling();
  await tab.clock.advance(902 * SECOND);
  tab.server.answer(lost());
  press(tab, "Go on editing");
  await tab.clock.advance(0);
  assert.equal(alerted(tab), "Bob has taken over.");
});

test("going on by the button leads back to the field that was left", async () => {
  const tab = idling();
  find(tab, "#t").focus();
  await tab.clock.advance(902 * SECOND);
  assert.equal(tab.document.activeElement, find(tab, "#t"));
  find(tab, "button.lock-tokens-button").focus();
  press(tab, "Go on editing");
  assert.equal(tab.document.activeElement, find(tab, "#t"));
});

test("pressing the button does not take it away before it is released", async () => {
  const tab = idling();
  await tab.clock.advance(902 * SECOND);
  tab.fire(find(tab, "button.lock-tokens-button"), "pointerdown");
  assert.deepEqual(buttons(tab), ["Go on editing"]);
});

test("an editor who comes back while the page is watching need not wait", async () => {
  const tab = idling();
  await tab.clock.advance(899 * SECOND);
  tab.server.take();
  let answer;
  const late = new Promise((resolve) => {
    answer = () => resolve(held());
  });
  tab.server.answer(late, held());
  await tab.clock.advance(SECOND);
  type(tab);
  answer();
  await tab.clock.advance(0);
  assert.deepEqual(actions(tab), ["watch", "renew"]);
});

test("an editor who works is never idle", async () => {
  const tab = idling();
  for (let minute = 0; minute < 40; minute += 1) {
    await tab.clock.advance(MINUTE);
    type(tab);
  }
  assert.deepEqual(new Set(actions(tab)), new Set(["renew"]));
});

test("a computer that sleeps is away", async () => {
  const tab = idling();
  tab.clock.sleep(1000 * SECOND);
  await tab.clock.advance(5 * SECOND);
  assert.deepEqual(actions(tab), ["watch"]);
});

for (const attributes of [{}, { "data-idle": "0" }])
  test(`without an idle time nobody is ever idle: ${JSON.stringify(attributes)}`, async () => {
    const tab = editing({ attributes });
    await tab.clock.advance(20_000 * SECOND);
    assert.deepEqual(new Set(actions(tab)), new Set(["renew"]));
  });

// Network and server ----------------------------------------------------------------------------

test("a lost network is told at once, and its return too", async () => {
  const tab = editing();
  await goOffline(tab);
  assert.equal(said(tab), "No connection.");
  await tab.clock.advance(MINUTE);
  assert.deepEqual(tab.take(), [["offline", { url: LOCK_URL, reason: "network" }]]);
  tab.server.take();
  await goOnline(tab, held());
  assert.deepEqual(actions(tab), ["renew"]);
  assert.equal(said(tab), "The connection is back, and the lock is yours.");
  await tab.clock.advance(11 * SECOND);
  assert.equal(said(tab), "");
});

test("a network that returns to an idle page does not make it less idle", async () => {
  const tab = idling();
  await goOffline(tab);
  await tab.clock.advance(900 * SECOND);
  await goOnline(tab, held());
  assert.equal(said(tab), "You are away. Your lock ends in 10:00.");
  type(tab);
  assert.equal(said(tab), "The connection is back.");
});

test("a lock that was lost while the network was away is not said to be held", async () => {
  const tab = editing();
  await goOffline(tab);
  await goOnline(tab, lost());
  assert.deepEqual([said(tab), alerted(tab)], ["", "Bob has taken over."]);
});

test("a single failure is not worth a word, two are", async () => {
  const tab = editing();
  tab.server.answer("network");
  await tab.clock.advance(5 * SECOND);
  assert.equal(said(tab), "");
  await tab.clock.advance(SECOND);
  assert.equal(said(tab), "No connection.");
  tab.server.answer(held());
  await tab.clock.advance(2 * SECOND);
  assert.equal(said(tab), "The connection is back, and the lock is yours.");
});

for (const status of [429, 500, 502, 503]) {
  test(`a server that answers ${status} is asked again`, async () => {
    const tab = editing();
    tab.server.answer(refusal(status));
    await tab.clock.advance(10 * SECOND);
    assert.equal(said(tab), "The server has trouble.");
    assert.deepEqual(tab.take(), [["offline", { url: LOCK_URL, reason: "server" }]]);
    tab.server.answer(held());
    await tab.clock.advance(30 * SECOND);
    assert.equal(alerted(tab), "");
  });
}

for (const [status, reason] of [
  [404, "gone"],
  [409, "refused"],
  [423, "refused"],
]) {
  test(`an answer of ${status} ends the page's life`, async () => {
    const tab = editing();
    tab.server.answer(refusal(status));
    await tab.clock.advance(MINUTE);
    assert.equal(alerted(tab), "You may not edit this any more.");
    assert.deepEqual(tab.take(), [["lost", { url: LOCK_URL, reason }]]);
    assert.equal(tab.server.take().length, 1);
  });
}

for (const [name, answers, methods] of [
  ["if reading is too", [refusal(403)], ["renew", "GET"]],
  ["even if reading is not", [refusal(403), FREE, refusal(403)], ["renew", "GET", "renew"]],
]) {
  test(`an editor who may not edit any more is told, ${name}`, async () => {
    const tab = editing();
    tab.server.answer(...answers);
    await tab.clock.advance(MINUTE);
    assert.equal(alerted(tab), "You may not edit this any more.");
    assert.deepEqual(buttons(tab), ["Copy my text", "Open it afresh"]);
    assert.deepEqual(actions(tab), methods);
  });
}

for (const [name, fresh] of [
  ["the answer", (tab) => tab.server.answer(TO_LOGIN, status({ csrf: "new-csrf" }), held())],
  [
    "the cookie",
    (tab) => {
      tab.document.cookie = "csrftoken=new-csrf";
      tab.server.answer(TO_LOGIN, FREE, held());
    },
  ],
]) {
  test(`who logs in again elsewhere can go on here, with a CSRF token from ${name}`, async () => {
    const tab = editing();
    fresh(tab);
    await tab.clock.advance(5 * SECOND);
    assert.equal(alerted(tab), "You are logged out.");
    assert.deepEqual(tab.take(), [["offline", { url: LOCK_URL, reason: "logged_out" }]]);
    tab.server.take();
    await tab.clock.advance(5 * SECOND);
    const [{ method, headers }, renewal] = tab.server.take();
    assert.deepEqual([method, headers["X-Lock-Token"]], ["GET", undefined]);
    assert.equal(renewal.headers["X-CSRFToken"], "new-csrf");
    assert.equal(alerted(tab), "");
    assert.equal(find(tab, "[name=csrfmiddlewaretoken]").value, "new-csrf");
  });
}

function status(more) {
  return { status: 200, data: { ...FREE.data, ...more } };
}

test("a CSRF token that changed by a login elsewhere costs nobody the page", async () => {
  const tab = editing();
  tab.server.answer(refusal(403), status({ csrf: "new-csrf" }), held());
  await tab.clock.advance(5 * SECOND);
  assert.equal(alerted(tab), "");
  assert.deepEqual(tab.take(), []);
  assert.equal(find(tab, "[name=csrfmiddlewaretoken]").value, "new-csrf");
});

// Leaving and coming back -----------------------------------------------------------------------

for (const persisted of [true, false]) {
  test(`leaving lets go, with the stamp of the renewal, persisted ${persisted}`, async () => {
    const tab = editing();
    tab.server.answer(held(600, "s2"));
    await tab.clock.advance(5 * SECOND);
    tab.server.take();
    goAway(tab, persisted);
    const [{ form, headers, options }] = tab.server.take();
    assert.deepEqual(form, { action: "leave", renewed: "s2" });
    assert.equal(options.keepalive, true);
    assert.equal(headers["X-Lock-Token"], TOKEN);
    await tab.clock.advance(MINUTE);
    assert.deepEqual(tab.server.take(), []);
  });
}

test("a download is not leaving", async () => {
  const tab = editing();
  tab.fire(tab.window, "beforeunload");
  assert.deepEqual(tab.server.take(), []);
});

test("a page from the back/forward cache renews at once", async () => {
  const tab = editing();
  goAway(tab, true);
  tab.clock.sleep(MINUTE);
  tab.server.take();
  comeBack(tab);
  await tab.clock.advance(0);
  assert.deepEqual(actions(tab), ["renew"]);
  assert.equal(alerted(tab), "");
  await tab.clock.advance(10 * SECOND);
  assert.ok(tab.server.take().length >= 2);
});

test("a page from the back/forward cache renews once more, after what leaving had sent", async () => {
  const tab = editing();
  goAway(tab, true);
  comeBack(tab);
  await tab.clock.advance(2 * SECOND);
  assert.deepEqual(actions(tab), ["leave", "renew", "renew", "renew"]);
});

test("a page from the back/forward cache says when its lock was lost", async () => {
  const tab = editing();
  goAway(tab, true);
  tab.server.answer(lost());
  comeBack(tab);
  await tab.clock.advance(0);
  assert.equal(alerted(tab), "Bob has taken over.");
});

test("who comes back to a page is not away from it, however long it took", async () => {
  const tab = idling();
  goAway(tab, true);
  tab.clock.sleep(2000 * SECOND);
  tab.server.take();
  comeBack(tab);
  await tab.clock.advance(10 * SECOND);
  assert.deepEqual(new Set(actions(tab)), new Set(["renew"]));
});

test("a page that was lost stays lost, and silent, through the back/forward cache", async () => {
  const channels = new Channels();
  const tab = editing({ channels });
  tab.server.answer(lost());
  await tab.clock.advance(5 * SECOND);
  goAway(tab, true);
  comeBack(tab);
  assert.equal(channels.open.size, 0);
  assert.equal(alerted(tab), "Bob has taken over.");
});

test("nothing wakes a page that is in the back/forward cache", async () => {
  const tab = editing();
  goAway(tab, true);
  tab.server.take();
  tab.fire(tab.window, "online");
  tab.fire(tab.document, "resume");
  type(tab);
  await tab.clock.advance(MINUTE);
  assert.deepEqual(tab.server.take(), []);
});

// Tabs of one browser ---------------------------------------------------------------------------

function twoTabs(attributes = {}) {
  const shared = { channels: new Channels(), clock: new Clock() };
  const first = editing({ ...shared, attributes });
  const second = editing({ ...shared, attributes: { "data-renewed": "s2", ...attributes } });
  return { first, second, clock: shared.clock };
}

test("a tab that is closed makes the other one renew, and again when it is surely gone", async () => {
  const { first, second, clock } = twoTabs({ "data-idle": "2" });
  await clock.advance(3 * SECOND);
  goAway(second, false);
  first.server.take();
  await clock.advance(2 * SECOND);
  assert.deepEqual(actions(first), ["renew", "renew", "renew", "renew"]);
});

test("a tab answers only for its own renewals while there is another", async () => {
  const { first, second, clock } = twoTabs();
  await clock.advance(0);
  first.server.answer(held(600, "s2"));
  second.server.answer(held(600, "s2"));
  await clock.advance(5 * SECOND);
  for (const tab of [first, second]) {
    tab.server.take();
    goAway(tab, false);
  }
  assert.deepEqual(first.server.take()[0].form, { action: "leave", renewed: "s1" });
  assert.deepEqual(second.server.take()[0].form, { action: "leave", renewed: "s2" });
});

test("a tab does not answer for what the other one has renewed since", async () => {
  const { first, second, clock } = twoTabs();
  await clock.advance(0);
  first.server.answer(held(600, "s3"));
  await clock.advance(5 * SECOND);
  second.server.answer(held(600, "s3"));
  await clock.advance(5 * SECOND);
  second.server.take();
  goAway(second, false);
  assert.deepEqual(second.server.take()[0].form, { action: "leave", renewed: "s2" });
});

test("the tab that is left answers for every renewal", async () => {
  const { first, second, clock } = twoTabs();
  await clock.advance(0);
  goAway(second, false);
  first.server.answer(held(600, "s2"));
  await clock.advance(5 * SECOND);
  first.server.take();
  goAway(first, false);
  assert.deepEqual(first.server.take()[0].form, { action: "leave", renewed: "s2" });
});

test("tabs on other objects do not matter", async () => {
  const shared = { channels: new Channels(), clock: new Clock() };
  const first = editing(shared);
  const second = editing({ ...shared, attributes: { "data-url": "/article/8/lock/" } });
  await shared.clock.advance(0);
  goAway(second, false);
  first.server.take();
  await shared.clock.advance(2 * SECOND);
  assert.deepEqual(actions(first), []);
});

test("tabs do not tell each other the token", async () => {
  const shared = { channels: new Channels(), clock: new Clock() };
  const heard = [];
  const spy = new shared.channels.BroadcastChannel(`lock_tokens ${LOCK_URL}`);
  spy.addEventListener("message", ({ data }) => heard.push(data));
  const tab = editing(shared);
  tab.server.answer(held(600, "s2"));
  await shared.clock.advance(5 * SECOND);
  goAway(tab, false);
  await shared.clock.advance(0);
  assert.deepEqual(
    heard.map(({ what }) => what),
    ["hello", "renewed", "bye"],
  );
  assert.doesNotMatch(JSON.stringify(heard), new RegExp(TOKEN));
});

test("a page in the back/forward cache keeps no channel open, and opens it again", async () => {
  const channels = new Channels();
  const tab = editing({ channels });
  assert.equal(channels.open.size, 1);
  goAway(tab, true);
  assert.equal(channels.open.size, 0);
  comeBack(tab);
  assert.equal(channels.open.size, 1);
});

// A reader's page -------------------------------------------------------------------------------

test("a reader's page counts down, asks without a token and sends no farewell", async () => {
  const tab = reading();
  assert.equal(said(tab), "The lock has 10:00 left.");
  await tab.clock.advance(3 * SECOND);
  assert.equal(said(tab), "The lock has 9:57 left.");
  tab.server.answer(locked(65));
  await tab.clock.advance(2 * SECOND);
  assert.equal(said(tab), "The lock has 1:05 left.");
  goAway(tab, false);
  const asked = tab.server.take();
  assert.deepEqual(
    asked.map(({ method, headers, form }) => [method, Object.keys(headers), form]),
    [["GET", ["Accept"], undefined]],
  );
});

test("a second that has begun is counted", () => {
  const tab = reading({ attributes: { "data-seconds": "64.2" } });
  assert.equal(said(tab), "The lock has 1:05 left.");
});

test("within ten seconds of the release the page offers to edit", async () => {
  const tab = reading();
  await tab.clock.advance(6 * SECOND);
  tab.server.answer(FREE);
  await tab.clock.advance(10 * SECOND);
  assert.equal(said(tab), "It is free now.");
  assert.deepEqual(buttons(tab), ["Edit now"]);
  assert.equal(find(tab, "a.lock-tokens-button").getAttribute("href"), "/article/7/?a=b");
});

test("a page that finds a lock of its own reader asks sooner, once", async () => {
  const tab = reading({ attributes: { "data-own": "true" } });
  await tab.clock.advance(SECOND);
  assert.deepEqual(actions(tab), ["GET"]);
  await tab.clock.advance(5 * SECOND - 1);
  assert.deepEqual(actions(tab), []);
  await tab.clock.advance(1);
  assert.deepEqual(actions(tab), ["GET"]);
});

test("a form that was refused is not thrown away for an offer to edit", async () => {
  const tab = reading({ attributes: { "data-typed": "true" } });
  tab.server.answer(FREE);
  await tab.clock.advance(5 * SECOND);
  assert.equal(said(tab), "It is free now. Save again.");
  assert.deepEqual(buttons(tab), ["Copy my text"]);
});

test("the offer is withdrawn when somebody else was quicker, who is named", async () => {
  const tab = reading();
  tab.server.answer(locked(), FREE, locked(60, "carol"));
  await tab.clock.advance(15 * SECOND);
  assert.equal(said(tab), "carol is editing. The lock has 1:00 left.");
  assert.deepEqual(buttons(tab), []);
});

test("the next holder is told of even where holders have no names", async () => {
  const tab = reading();
  const nobody = (message) => locked(60, null, message);
  tab.server.answer(nobody("Somebody since one."), FREE, nobody("Somebody since two."));
  await tab.clock.advance(15 * SECOND);
  assert.equal(said(tab), "Somebody since two. The lock has 1:00 left.");
});

test("times in a message are the reader's own", async () => {
  const tab = reading();
  const message = "carol is editing since {since}.";
  const next = locked(60, "carol", message);
  next.data.since = "2026-11-22T10:00:00Z";
  tab.server.answer(locked(), next);
  await tab.clock.advance(10 * SECOND);
  assert.equal(
    said(tab),
    `carol is editing since ${shown(next.data.since)}. The lock has 1:00 left.`,
  );
});

test("what the page says of the holder goes when it is not true any more", async () => {
  const html = "<main><div data-lock-tokens-banner hidden><p id=given>bob edits.</p></div></main>";
  const tab = reading({ html });
  assert.equal(banner(tab).hidden, false);
  assert.equal(find(tab, "#given").hidden, false);
  tab.server.answer(FREE);
  await tab.clock.advance(5 * SECOND);
  assert.equal(find(tab, "#given").hidden, true);
});

test("what the page says of the holder goes when another one comes", async () => {
  const html = "<main><div data-lock-tokens-banner><p id=given>bob edits.</p></div></main>";
  const tab = reading({ html });
  tab.server.answer(locked(), locked(60, "carol"));
  await tab.clock.advance(5 * SECOND);
  assert.equal(find(tab, "#given").hidden, false);
  await tab.clock.advance(5 * SECOND);
  assert.equal(find(tab, "#given").hidden, true);
  assert.equal(said(tab), "carol is editing. The lock has 1:00 left.");
});

for (const [status_, text, method] of [
  [403, "You may not edit this any more.", 1],
  [302, "You are logged out.", 12],
]) {
  test(`a reader hears of ${status_} too`, async () => {
    const tab = reading();
    tab.server.answer(refusal(status_));
    await tab.clock.advance(MINUTE);
    assert.equal(alerted(tab), text);
    assert.equal(tab.server.take().length, method);
  });
}

test("a reader hears of the network too", async () => {
  const tab = reading();
  await goOffline(tab);
  assert.equal(said(tab), "No connection.");
  await goOnline(tab, locked());
  assert.equal(said(tab), "The connection is back.");
});

// Where the notice goes, and times --------------------------------------------------------------

for (const [html, parent] of [
  ["<main><div id=content-main><p></p></div></main>", "#content-main"],
  ["<div></div><main><p></p></main>", "main"],
  ["<p></p>", "body"],
]) {
  test(`the notice comes first in ${parent}`, () => {
    const tab = reading({ html });
    assert.equal(find(tab, parent).firstElementChild, banner(tab));
  });
}

test("buttons can be reached and take the focus from nobody", async () => {
  const tab = idling();
  find(tab, "#t").focus();
  await tab.clock.advance(902 * SECOND);
  const [button] = tab.document.querySelectorAll("button.lock-tokens-button");
  assert.equal(button.type, "button");
  assert.equal(tab.document.activeElement, find(tab, "#t"));
});

const moment = `<time datetime="2026-11-22T10:00:00+00:00" data-lock-tokens-time>10 o'clock</time>`;

for (const lang of ["en", "de", "ar", "pt-br", "", "no_such!"]) {
  test(`times are shown in the reader's zone and the page's language: ${lang}`, () => {
    const tab = new Tab({ html: `<html lang="${lang}"><body>${moment}</body></html>` });
    tab.load("page.js");
    const known = lang === "no_such!" || lang === "" ? undefined : lang;
    assert.equal(find(tab, "time").textContent, shown("2026-11-22T10:00Z", known));
  });
}

test("a time that is none, or not ours, stays as it is", () => {
  const html = `<time datetime="noon" data-lock-tokens-time>a</time><time datetime="2026">b</time>`;
  const tab = new Tab({ html });
  tab.load("page.js");
  assert.equal(tab.document.body.textContent, "ab");
});

test("no page ever reloads itself", async () => {
  for (const tab of [editing(), reading()]) {
    tab.server.answer(lost(), FREE, refusal(404));
    await tab.clock.advance(MINUTE);
    assert.equal(tab.window.location.href, "https://site.example/article/7/?a=b#top");
  }
});
