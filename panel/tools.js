/** The strip's buttons: beside each other where there is room, else behind one of their own. @module tools */

import { at } from "./dom.js";

export function setUpTools() {
  const [tools, opener] = [at("tools"), at("tools-open")];
  const set = (open) => {
    tools.toggleAttribute("data-open", open);
    opener.setAttribute("aria-expanded", String(open));
  };
  opener.addEventListener("click", () => {
    set(!tools.hasAttribute("data-open"));
    if (tools.hasAttribute("data-open")) [...tools.children].find((tool) => tool.checkVisibility())?.focus();
  });
  // Whatever is pressed then, beside it or in it, closes it.
  document.addEventListener("click", (event) => event.target instanceof Element && !event.target.closest("#tools-open") && set(false));
  tools.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    set(false);
    opener.focus();
  });
}
