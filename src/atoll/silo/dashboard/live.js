"use strict";
// Pages are complete without this; with it, what changed is fetched again and put in place.
const page = document.getElementById("page");
const said = document.getElementById("said");
let waiting = null;

async function refresh() {
  waiting = null;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) {
    location.reload();
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("page");
  const open = Array.from(page.querySelectorAll("details"), (d) => d.open);
  const focus = document.activeElement && document.activeElement.id;
  fresh.querySelectorAll("details").forEach((d, i) => { d.open = Boolean(open[i]); });
  page.replaceChildren(...fresh.childNodes);
  if (focus) document.getElementById(focus)?.focus();
}

const events = new EventSource("/live");
events.addEventListener("changed", () => {
  said.textContent = "";
  if (waiting === null) waiting = setTimeout(refresh, 200);
});
events.addEventListener("ended", () => location.reload());
events.onerror = () => { said.textContent = "The coordinator cannot be reached; trying again."; };
events.onopen = () => { said.textContent = ""; };
