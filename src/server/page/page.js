// Keeps the page up to date: takes parts of it from the server's stream and puts them in place of the old ones, and counts the ages.
// It makes no markup of its own. What it is given is parsed as a document in which nothing runs, and compared node by node.
"use strict";
{
  const main = document.querySelector("main");
  const link = document.getElementById("link");
  const said = document.getElementById("said");
  const LOST_AFTER = 30_000, HIDDEN_AFTER = 60_000;

  document.documentElement.classList.add("scripted");

  // The server's clock, from when it last told it: this machine's own may be wrong.
  let told = Number(main.dataset.now), heard = performance.now();
  const now = () => told + performance.now() - heard;

  const words = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    const pair = (large, unit, small, sub) => (small ? `${large}${unit} ${small}${sub}` : `${large}${unit}`);
    if (s < 60) return `${s}s`;
    if (s < 3600) return pair(Math.floor(s / 60), "m", s % 60, "s");
    if (s < 86400) return pair(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "m");
    return pair(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
  };
  const forms = {
    for: (at) => words(now() - at),
    ago: (at) => `${words(now() - at)} ago`,
    next: (at) => (at > now() ? `in ${words(at - now())}` : "now"),
  };
  const count = (time) => {
    const form = forms[time.dataset.as];
    const text = form && form(Date.parse(time.dateTime));
    if (text && time.textContent !== text) time.textContent = text;
  };
  const countAll = () => document.querySelectorAll("time[data-as]").forEach(count);

  // Makes `old` like `fresh` and keeps what is the same, so that focus, selection and place stay.
  const morph = (old, fresh) => {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old.matches("time[data-as]")) return count(old);
    const keyed = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const mine = wanted.id ? keyed.get(wanted.id) : at && !at.id && at.nodeName === wanted.nodeName ? at : null;
      if (!mine) {
        const made = document.importNode(wanted, true);
        if (made.nodeName === "TR" && made.id) made.classList.add("fresh");
        old.insertBefore(made, at);
        continue;
      }
      if (mine === at) at = at.nextSibling;
      else old.insertBefore(mine, at);
      if (mine.nodeType === Node.ELEMENT_NODE) morph(mine, wanted);
      else if (mine.nodeValue !== wanted.nodeValue) mine.nodeValue = wanted.nodeValue;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  const put = (html) => {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    for (const fresh of [...parsed.body.children]) {
      const old = document.getElementById(fresh.id);
      if (!old) continue;
      morph(old, fresh);
      if (fresh.dataset.title && document.title !== fresh.dataset.title) {
        document.title = fresh.dataset.title;
        // Read out only when the numbers change, not with every look.
        said.textContent = fresh.dataset.said || "";
      }
    }
    countAll();
  };

  const show = (state, text) => {
    if (link.dataset.state === state) return;
    link.dataset.state = state;
    link.className = `link ${state}`;
    link.querySelector("b").textContent = text;
    if (state === "lost") said.textContent = "The connection to velt-watch is lost.";
  };

  let stream = null, silence = 0, again = 0, hidden = 0;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => show("lost", "Connection lost; what you see is old"), LOST_AFTER);
  };
  const open = () => {
    clearTimeout(again);
    if (stream) stream.close();
    stream = new EventSource(main.dataset.stream);
    stream.addEventListener("hello", (event) => {
      // Another version of the program needs another page.
      if (event.data !== main.dataset.build) location.reload();
    });
    stream.addEventListener("part", (event) => put(event.data));
    stream.addEventListener("tick", (event) => {
      told = Number(event.data);
      heard = performance.now();
      show("live", "Live");
      listen();
      countAll();
    });
    stream.addEventListener("error", () => {
      show("lost", "Connection lost; what you see is old");
      // Refused: the browser does not try again by itself.
      if (stream.readyState === EventSource.CLOSED) again = setTimeout(open, 5_000 + Math.random() * 5_000);
    });
    listen();
  };
  const close = () => {
    clearTimeout(again);
    clearTimeout(silence);
    if (stream) stream.close();
    stream = null;
  };
  // A page that nobody sees takes nobody's place.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(close, HIDDEN_AFTER);
    else if (!stream) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  setInterval(countAll, 1000);
  countAll();
  open();
}
