"use strict";
const filter = document.getElementById("filter");
const sort = document.getElementById("sort");
const refreshed = document.getElementById("refreshed");
const every = Number(document.getElementById("live").dataset.every) * 1000;
const longestPress = 5000;
let pressed = -Infinity;

// A click is one only if it ends on the part where it began: nothing is replaced meanwhile.
function isPressed() {
  return performance.now() - pressed < longestPress;
}

function compare(a, b) {
  const key = sort.value;
  if (key === "calls" || key === "rejected") return Number(b.dataset[key]) - Number(a.dataset[key]) || compareNames(a, b);
  return key === "order" ? Number(a.dataset.order) - Number(b.dataset.order) : compareNames(a, b);
}

function compareNames(a, b) {
  return a.dataset.name < b.dataset.name ? -1 : 1;
}

function arrange() {
  const live = document.getElementById("live");
  const wanted = filter.value.trim().toLowerCase();
  const policies = [...live.querySelectorAll(".policy")].sort(compare);
  for (const policy of policies) {
    policy.hidden = !policy.querySelector("summary").textContent.toLowerCase().includes(wanted);
    live.append(policy);
  }
  document.getElementById("none").hidden = policies.some((policy) => !policy.hidden);
}

function replace(text) {
  const old = document.getElementById("live");
  const open = new Set([...old.querySelectorAll("details[open]")].map((part) => part.dataset.key));
  const focused = document.activeElement.closest("details")?.dataset.key;
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("live");
  if (fresh === null) throw new Error("the answer is not this page");
  for (const part of fresh.querySelectorAll("details")) part.open = open.has(part.dataset.key);
  old.replaceWith(document.adoptNode(fresh));
  arrange();
  if (focused !== undefined) {
    [...document.querySelectorAll("details")].find((part) => part.dataset.key === focused)?.querySelector("summary").focus();
  }
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    const text = await answer.text();
    if (isPressed()) return;
    replace(text);
    refreshed.textContent = `refreshed ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    refreshed.textContent = `▲ not refreshed: ${error.message}`;
  }
}

async function follow() {
  await refresh();
  setTimeout(follow, every);
}

filter.addEventListener("input", arrange);
sort.addEventListener("change", arrange);
document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("visibilitychange", refresh);
document.addEventListener("pointerdown", () => { pressed = performance.now(); });
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { pressed = -Infinity; });
setTimeout(follow, every);
