"use strict";
/* Explanations: whatever has data-help shows it under the pointer and under focus. */

const tip = document.getElementById("tip");
let explained = null;

function showTip(node) {
  hideTip();
  explained = node;
  tip.textContent = node.dataset.help;
  tip.hidden = false;
  node.setAttribute("aria-describedby", "tip");
  const around = node.getBoundingClientRect();
  const left = Math.min(around.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const below = around.bottom + 6;
  const fits = below + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${fits ? below : Math.max(8, around.top - tip.offsetHeight - 6)}px`;
}

function hideTip() {
  explained?.removeAttribute("aria-describedby");
  explained = null;
  tip.hidden = true;
}

function followTip(event) {
  const node = event.target.closest?.("[data-help]");
  if (node) showTip(node);
  // The pointer may enter the explanation itself, to read or copy it.
  else if (!tip.contains(event.target) && explained !== document.activeElement) hideTip();
}

document.addEventListener("pointerover", followTip);
document.addEventListener("focusin", followTip);
document.addEventListener("focusout", hideTip);
document.addEventListener("scroll", hideTip, { passive: true });
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
