/* The life of an open page whose object is locked: for its editor, or by somebody else. */
(() => {
  const config = document.currentScript.dataset;

  // Milliseconds: between two questions, in a tab that is seen and in one that is not, and how
  // long good news is shown.
  const POLL = 5000;
  const HIDDEN_POLL = 30000;
  const NEWS = 10000;
  // How long the answer to a form that was sent off may take. The lock ends with the save, and
  // that is no loss.
  const SAVING = 10000;

  function localTime(iso) {
    const moment = new Date(iso || Number.NaN);
    if (Number.isNaN(moment.getTime())) return null;
    const style = { dateStyle: "medium", timeStyle: "short" };
    try {
      return moment.toLocaleString(document.documentElement.lang || undefined, style);
    } catch {
      return moment.toLocaleString(undefined, style);
    }
  }

  function showLocalTimes() {
    for (const element of document.querySelectorAll("time[data-lock-tokens-time]")) {
      element.textContent = localTime(element.dateTime) ?? element.textContent;
    }
  }

  showLocalTimes();
  if (!config.url) return;

  const { cookie, emit, keeper, reasonOf, request, stopwatch, wake } = window.lock_tokens;
  const messages = JSON.parse(config.messages || "{}");
  const field = config.field || "lock_token";
  const mine = config.state === "held";

  // What the page shows ------------------------------------------------------------------------

  function make(name, attributes, parent) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent?.append(element);
    return element;
  }

  function makeBox() {
    const attributes = { "data-lock-tokens-banner": "", class: "lock-tokens-banner" };
    const box = make("div", attributes);
    const find = (selector) => document.querySelector(selector);
    (find("#content-main") || find("main") || document.body).prepend(box);
    return box;
  }

  const inMinutes = (seconds) =>
    `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

  // Only what differs is written: a screen reader announces whatever is.
  function fill(element, text) {
    if (element.lockTokensText === text) return;
    element.lockTokensText = text;
    const [before, ...rest] = text.split("{time}");
    element.replaceChildren(before);
    for (const after of rest) {
      // Announced with the text, and not again every second.
      const countdown = { class: "lock-tokens-countdown", role: "timer", "aria-live": "off" };
      make("span", countdown, element);
      element.append(after);
    }
  }

  // The notice. `show({text, alert, buttons, given}, seconds)` is cheap when nothing changes.
  function banner(buttons) {
    const box = document.querySelector("[data-lock-tokens-banner]") || makeBox();
    // What the server wrote about the lock is true until that lock ends.
    const given = [...box.children];
    // There before they speak, or they would not be heard.
    const status = make("p", { class: "lock-tokens-text", role: "status" }, box);
    const alert = make("p", { class: "lock-tokens-text", role: "alert" }, box);
    const row = make("div", { class: "lock-tokens-buttons" }, box);
    box.hidden = false;

    function showButtons(names) {
      const wanted = names.map((name) => buttons[name]).filter(Boolean);
      if (wanted.length === row.children.length && wanted.every((one) => row.contains(one))) return;
      row.replaceChildren(...wanted);
    }

    function show(view, seconds) {
      fill(status, view.text || "");
      fill(alert, view.alert || "");
      showButtons(view.buttons || []);
      for (const element of given) element.hidden = !view.given;
      for (const element of box.querySelectorAll("[role=timer]")) {
        const time = inMinutes(Math.ceil(seconds));
        if (element.textContent !== time) element.textContent = time;
      }
      const quiet = !view.text && !view.alert && !(view.given && given.length);
      box.classList.toggle("lock-tokens-quiet", quiet);
      box.classList.toggle("lock-tokens-alarm", Boolean(view.alert));
    }

    return { box, row, show };
  }

  function makeButton(name, action) {
    const button = make("button", { type: "button", class: "lock-tokens-button" });
    button.textContent = messages[name];
    button.addEventListener("click", action);
    return button;
  }

  function makeLink(name) {
    const href = location.pathname + location.search;
    const link = make("a", { href, class: "lock-tokens-button" });
    link.textContent = messages[name];
    // In a tab of its own where it would cost what was typed into this one.
    link.addEventListener("click", () => {
      if (typed) link.target = "_blank";
    });
    return link;
  }

  // The forms, and what was typed into them ----------------------------------------------------

  const forms = () => [...document.forms].filter((form) => form.method === "post");
  const hasField = (form) => [...form.elements].some((control) => control.name === field);

  function fillTokens() {
    if (!mine || !config.fill) return;
    for (const form of document.querySelectorAll(config.fill)) {
      if (form.method !== "post" || hasField(form)) continue;
      make("input", { type: "hidden", name: field, value: config.token }, form);
    }
  }

  const TEXTUAL = [
    ...["date", "datetime-local", "email", "month", "number", "search"],
    ...["tel", "text", "textarea", "time", "url", "week"],
  ];

  const isVisible = (element) =>
    element.checkVisibility ? element.checkVisibility() : element.getClientRects().length > 0;

  function labelOf(control) {
    const label = control.labels?.[0]?.textContent || control.getAttribute("aria-label");
    return (label || control.name || "").trim().replace(/\s*[:：]$/, "");
  }

  function textOf(control) {
    // Not textContent: it keeps the ends of lines.
    if (control.isContentEditable) return control.innerText;
    return TEXTUAL.includes(control.type) ? control.value : "";
  }

  // Labels and values, to be pasted anywhere.
  function typedText() {
    const locked = forms().filter(hasField);
    return (locked.length ? locked : forms())
      .flatMap((form) => [...form.elements, ...form.querySelectorAll("[contenteditable]")])
      .filter((control) => isVisible(control) && textOf(control).trim())
      .map((control) => `${labelOf(control)}:\n${textOf(control)}\n`)
      .join("\n");
  }

  async function copy() {
    const text = typedText();
    try {
      await navigator.clipboard.writeText(text);
      copied = true;
      render();
    } catch {
      offerToCopy(text);
    }
  }

  // The browser did not allow it: the reader's own keys will do.
  function offerToCopy(text) {
    const attributes = { class: "lock-tokens-copy", readonly: "", "aria-label": messages.copy };
    const old = notice.box.querySelector(".lock-tokens-copy");
    const area = old || make("textarea", attributes, notice.box);
    area.value = text;
    area.focus();
    area.select();
  }

  // Where things stand -------------------------------------------------------------------------

  let typed = false;
  let copied = false;
  // Set for good when the page is lost: what to say.
  let ended = null;
  let loggedOut = false;
  let trouble = null;
  let attempts = 0;
  let news = null;
  // Of a page that does not hold the lock.
  let free = false;
  let holder;
  let told = "";
  // The page is in the back/forward cache, or about to go.
  let away = false;
  let saving = null;
  let active = stopwatch();
  let lease = { seconds: Number(config.seconds) || 0, since: stopwatch() };

  const secondsLeft = () => Math.max(0, lease.seconds - lease.since() / 1000);
  const isIdle = () => mine && Number(config.idle) > 0 && active() >= config.idle * 1000;

  function view() {
    if (ended !== null)
      return { alert: ended, text: copied && messages.copied, buttons: [...copying, "reload"] };
    if (loggedOut) return { alert: messages.logged_out, buttons: copying };
    const given = !free && !told;
    if (trouble) return { text: messages[trouble], given };
    if (isIdle()) return { text: idleText(), buttons: ["go_on"] };
    if (news && news.since() < NEWS) return { text: news.text, given };
    if (mine) return { given: true };
    // Going to the page again would cost what a refused form still has.
    if (free && config.typed) return { text: messages.free_typed, buttons: copying };
    if (free) return { text: messages.free, buttons: ["edit"] };
    return { text: [told, messages.countdown].filter(Boolean).join(" "), given, buttons: copying };
  }

  const idleText = () => (secondsLeft() > 0 ? messages.idle : messages.idle_over);
  const copying = mine || config.typed ? ["copy"] : [];

  const notice = banner({
    copy: navigator.clipboard && makeButton("copy", copy),
    edit: makeLink("edit"),
    go_on: makeButton("go_on", goOn),
    reload: makeLink("reload"),
  });
  const render = () => notice.show(view(), secondsLeft());

  let lastFocus = null;
  function goOn() {
    isActive();
    // The button goes, so back to the field that the editor was in.
    lastFocus?.focus();
  }

  function end(text, reason) {
    ended = text || messages.forbidden;
    tabs.close();
    render();
    emit("lost", { url: config.url, reason });
    return null;
  }

  // Other tabs of this browser on the same object ----------------------------------------------

  // The stamps of renewals: the last one seen, those that another tab told of, and the one that
  // this page answers for. Leaving shortens the lock only if nobody has renewed it since then.
  let seen = config.renewed;
  const heard = new Set();
  let stamp = config.renewed;
  // Delays of the next questions, which renew even for an idle page: another tab has left.
  let hurry = [];
  let hurried = false;

  function renewSoon(...delays) {
    hurry = delays;
    hurried = true;
  }

  function openTabs() {
    const me = Math.random().toString(36).slice(2);
    const others = new Set();
    let channel = null;

    const say = (what) => channel?.postMessage({ what, from: me, renewed: stamp });

    function hear({ data }) {
      if (data.what === "bye") return bye(data.from);
      others.add(data.from);
      heard.add(data.renewed);
      if (data.what === "hello") say("here");
    }

    // The other tab has let the lock run out, perhaps before this one's next renewal, and
    // perhaps not quite yet.
    function bye(from) {
      others.delete(from);
      renewSoon(0, 1000, 1000);
      poll.poke();
    }

    function open() {
      if (!mine || !window.BroadcastChannel) return;
      others.clear();
      channel = new BroadcastChannel(`lock_tokens ${config.url}`);
      channel.addEventListener("message", hear);
      say("hello");
    }

    // Open, it might keep the page out of the back/forward cache.
    function close() {
      channel?.close();
      channel = null;
    }

    return { alone: () => others.size === 0, close, open, say };
  }

  function learn(renewed) {
    const fresh = renewed !== seen;
    const own = fresh && !heard.has(renewed);
    seen = renewed;
    if (own || tabs.alone()) stamp = renewed;
    if (own) tabs.say("renewed");
    if (fresh && asked === "renew") emit("renewed", { url: config.url, reason: "renewed" });
  }

  // Questions and answers ----------------------------------------------------------------------

  const csrfFields = () => [...document.querySelectorAll("[name=csrfmiddlewaretoken]")];
  let csrf = csrfFields()[0]?.value || cookie(config.csrfCookie || "csrftoken");
  let asked = null;
  // A refusal may only mean that the CSRF token has changed with a login in another tab: "ask"
  // whether the page may still be read, then "retry".
  let doubt = null;

  function post(action, options) {
    const headers = {
      [config.header || "X-Lock-Token"]: config.token,
      [config.csrfHeader || "X-CSRFToken"]: csrf,
    };
    const body = new URLSearchParams({ action, renewed: stamp || "" });
    return request("POST", config.url, headers, { body, ...options });
  }

  function ask() {
    if (!mine || doubt === "ask") {
      asked = "status";
      return request("GET", config.url, {});
    }
    asked = isIdle() && !hurried ? "watch" : "renew";
    return post(asked);
  }

  function answered(answer) {
    const next = judge(answer);
    render();
    return next;
  }

  function judge({ status, data }) {
    if (reasonOf(status) === "logged_out") return logOut();
    if (status === 403 && asked !== "status" && doubt === null) {
      doubt = "ask";
      return 0;
    }
    if (status !== 200) return end(messages.forbidden, reasonOf(status));
    if (mine && asked === "status") return retry(data);
    return mine ? judgeOwn(data) : judgeOther(data);
  }

  function logOut() {
    if (!loggedOut) emit("offline", { url: config.url, reason: "logged_out" });
    loggedOut = true;
    doubt = "ask";
    recovered(null);
    return POLL;
  }

  function retry(data) {
    doubt = "retry";
    csrf = data.csrf || cookie(config.csrfCookie || "csrftoken") || csrf;
    return 0;
  }

  function judgeOwn(data) {
    if (data.state !== "held") {
      if (saving && saving() < SAVING) return 1000;
      return end(withTimes(data), "lost");
    }
    // What goes for this page's questions goes for its forms.
    if (doubt) for (const input of csrfFields()) input.value = csrf;
    doubt = null;
    loggedOut = false;
    lease = { seconds: data.seconds, since: stopwatch() };
    learn(data.renewed);
    recovered(isIdle() ? messages.back : messages.online);
    return pace();
  }

  function judgeOther(data) {
    if (holder !== undefined && (free || data.by !== holder)) told = withTimes(data);
    holder = data.by;
    loggedOut = false;
    free = data.state !== "locked";
    lease = { seconds: data.seconds, since: stopwatch() };
    recovered(messages.back);
    return pace();
  }

  const withTimes = ({ message, since, until }) =>
    (message || "")
      .replace("{since}", localTime(since) ?? "")
      .replace("{until}", localTime(until) ?? "");

  function pace() {
    if (hurry.length) return hurry.shift();
    hurried = false;
    // The editor came back while the question was on its way.
    if (asked === "watch" && !isIdle()) return 0;
    const slowest = document.visibilityState === "hidden" ? HIDDEN_POLL : POLL;
    if (!mine || isIdle() || !secondsLeft()) return slowest;
    return Math.min(slowest, Math.max(1000, secondsLeft() * 250));
  }

  // Once may be a page that is being left; the second attempt follows within a second.
  function troubled(reason) {
    if (attempts === 0) emit("offline", { url: config.url, reason });
    attempts += 1;
    if (attempts > 1 || !navigator.onLine) trouble = reason === "network" ? "offline" : "trouble";
    render();
  }

  function recovered(text) {
    if (trouble && text) news = { text, since: stopwatch() };
    trouble = null;
    attempts = 0;
  }

  // Coming and going ---------------------------------------------------------------------------

  const poll = keeper(ask, answered, troubled);
  const tabs = openTabs();

  function askNow() {
    if (ended === null && !away) poll.poke();
  }

  function isActive() {
    const was = isIdle();
    active = stopwatch();
    if (was) {
      askNow();
      render();
    }
  }

  // The notice has buttons of its own, which must not vanish under the finger.
  function noticeEditor({ target }) {
    if (!notice.box.contains(target)) isActive();
  }

  function leave() {
    away = true;
    poll.stop();
    if (!mine || ended !== null) return;
    post("leave", { keepalive: true }).catch(() => {});
    tabs.say("bye");
    tabs.close();
  }

  function comeBack() {
    away = false;
    saving = null;
    active = stopwatch();
    if (ended !== null) return;
    // What leaving has sent may still be on its way.
    renewSoon(1000, 1000);
    tabs.open();
    askNow();
  }

  function listen() {
    for (const name of ["input", "keydown", "pointerdown", "touchmove", "wheel"]) {
      document.addEventListener(name, noticeEditor, { passive: true, capture: true });
    }
    document.addEventListener("input", () => {
      typed = true;
    });
    document.addEventListener("focusin", ({ target }) => {
      if (!notice.box.contains(target)) lastFocus = target;
    });
    window.addEventListener("submit", (event) => {
      if (!event.defaultPrevented) saving = stopwatch();
    });
    window.addEventListener("pagehide", leave);
    window.addEventListener("pageshow", (event) => event.persisted && comeBack());
    window.addEventListener("offline", askNow);
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") isActive();
    });
    wake(askNow);
  }

  listen();
  fillTokens();
  tabs.open();
  // Out of the HTTP cache, so it was left before, and what that has sent may still be on its way.
  const wasLeft = mine && performance.getEntriesByType?.("navigation")[0]?.type === "back_forward";
  if (wasLeft) hurry = [1000, 1000];
  // Perhaps the lock of another tab of this session, which was opened in the same instant.
  if (config.own) hurry = [1000];
  poll.wait(wasLeft ? 0 : pace());
  setInterval(render, 1000);
  render();
})();
