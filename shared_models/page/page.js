"use strict";
// Puts changed parts of the page in place as the server sends them. The page is whole without it.
(() => {
  const url = document.body.dataset.events;
  const live = document.querySelector("[data-live]");
  const put_off = new Map();
  if (!url || !("EventSource" in window)) return;

  const say = (state, words) => {
    if (live.dataset.live === state) return;
    live.dataset.live = state;
    live.textContent = words;
  };

  // Somebody who is typing, or about to press a button, is not disturbed: the part waits until the focus has left it.
  const in_use = (part) => part.contains(document.activeElement) && document.activeElement.closest("form") !== null;

  const put = (part, digest, html) => {
    const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    const scrolled = [...part.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.innerHTML = html;
    part.dataset.digest = digest;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo({ left, top, behavior: "instant" });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const take = (changed) => {
    for (const [name, [digest, html]] of Object.entries(changed)) {
      const part = document.querySelector(`[data-part="${name}"]`);
      if (!part) continue;
      put_off.delete(name);
      if (part.dataset.digest === digest) continue;
      if (in_use(part)) put_off.set(name, [digest, html]);
      else put(part, digest, html);
    }
  };

  document.addEventListener("focusout", () => setTimeout(() => take(Object.fromEntries(put_off)), 0));

  const source = new EventSource(url);
  source.addEventListener("open", () => say("on", "Live"));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) say("off", "Not live: reload the page");
    else say("lost", "Not live: trying to reach the server");
  });
  source.addEventListener("parts", (event) => take(JSON.parse(event.data)));
  source.addEventListener("over", () => {
    source.close();
    say("over", "This run is over");
  });
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
})();
