// Keeps a page of `cloudrun ui` up to date. HTML comes from this server alone, which escapes what others wrote; lines of
// a log are put in as text.
"use strict";

// All runs: the table is asked for again and again, and ticks stay.
const form = document.getElementById("runs");
if (form) {
  const rows = document.getElementById("rows");
  let shown = "";
  const ticked = () => new Set([...form.querySelectorAll("input:checked")].map((box) => box.value));
  const tell = () => {
    const button = form.querySelector("button");
    if (!button) return;
    const count = ticked().size;
    button.disabled = count < 1;
    button.textContent = count > 1 ? `Compare ${count} runs` : count ? "Show the ticked run" : "Compare the ticked runs";
  };
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(`${form.dataset.rows}&have=${shown}`);
      if (answer.status !== 200) return;
      const kept = ticked();
      const focused = document.activeElement && document.activeElement.closest("#rows") ? document.activeElement : null;
      const place = focused && [focused.tagName, focused.getAttribute("href") || focused.value || ""];
      shown = answer.headers.get("X-Shown") || "";
      const scrolled = rows.querySelector(".scroll") ? rows.querySelector(".scroll").scrollLeft : 0;
      rows.innerHTML = await answer.text();
      if (rows.querySelector(".scroll")) rows.querySelector(".scroll").scrollLeft = scrolled;
      for (const box of form.querySelectorAll("input")) box.checked = kept.has(box.value);
      if (place) {
        const same = (one) => (one.getAttribute("href") || one.value || "") === place[1];
        const again = [...rows.querySelectorAll(place[0])].find(same);
        if (again) again.focus({ preventScroll: true });
      }
      tell();
    } catch {
      // The server has ended, or a moment's hitch: what is shown stays.
    }
  };
  form.addEventListener("change", tell);
  document.addEventListener("visibilitychange", refresh);
  tell();
  setInterval(refresh, 5000);
}

// A run that goes on: its page hears what changes. A page that nobody sees lets its connection go, since a browser keeps
// six to one server.
const log = document.getElementById("lines");
if (log) {
  const link = document.getElementById("link");
  const most = 400;
  let source = null;
  let last = "";
  const put = (id, html) => {
    const place = document.getElementById(id);
    const open = new Set([...place.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
    if (place.contains(document.activeElement)) return; // somebody walks through a chart: the next change is soon enough
    place.innerHTML = html;
    for (const one of place.querySelectorAll("summary")) one.parentElement.open = open.has(one.textContent);
    window.cloudrunCharts(place);
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(`${log.dataset.events}?last=${encodeURIComponent(last)}`);
    source.addEventListener("open", () => (link.textContent = "live"));
    source.addEventListener("error", () => {
      const isOver = source && source.readyState === EventSource.CLOSED;
      link.textContent = isOver ? "no answer: is `cloudrun ui` still running?" : "the connection was cut: trying again ...";
      if (isOver) close();
    });
    source.addEventListener("top", (event) => put("top", event.data));
    source.addEventListener("curves", (event) => put("charts", event.data));
    source.addEventListener("log", (event) => {
      last = event.lastEventId;
      const told = JSON.parse(event.data);
      const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
      if (told.reset) log.replaceChildren();
      for (const line of told.lines) log.append(document.createTextNode(`${line}\n`));
      while (log.childNodes.length > most) log.firstChild.remove();
      if (isAtEnd) log.scrollTop = log.scrollHeight;
    });
    source.addEventListener("ended", () => {
      close();
      location.reload();
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
}
