// Below each chart stand the values at one place of its axis. A pointer, or the arrow keys, choose another place.
"use strict";
window.cloudrunCharts = (part) => {
  for (const chart of part.querySelectorAll(".chart")) {
    const drawing = chart.querySelector("svg[role=img]");
    const readout = chart.querySelector(".readout");
    const places = [...drawing.querySelectorAll(".hit")];
    const guide = drawing.querySelector(".guide");
    if (!places.length) continue;
    const first = Number(drawing.dataset.marked);
    let at = first;
    const show = (index, seen) => {
      at = Math.max(0, Math.min(places.length - 1, index));
      readout.textContent = places[at].querySelector("title").textContent;
      for (const end of ["x1", "x2"]) guide.setAttribute(end, places[at].dataset.at);
      guide.style.visibility = seen ? "visible" : "hidden";
    };
    const nearest = (event) => {
      const box = drawing.getBoundingClientRect();
      const across = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
      const gaps = places.map((place) => Math.abs(Number(place.dataset.at) - across));
      show(gaps.indexOf(Math.min(...gaps)), true);
    };
    drawing.addEventListener("pointermove", nearest);
    drawing.addEventListener("pointerdown", nearest);
    drawing.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(first, false));
    drawing.addEventListener("blur", () => show(first, false));
    drawing.addEventListener("keydown", (event) => {
      const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: places.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(next, true);
    });
    drawing.setAttribute("tabindex", "0");
    readout.setAttribute("aria-live", "polite");
  }
};
window.cloudrunCharts(document);
