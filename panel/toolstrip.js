/** The buttons in the strip above the board. A narrow screen shows them in a menu. @module toolstrip */

import { byId } from "./dom.js";

export function setUpTools() {
  const [tools, opener] = [byId("tools"), byId("tools-open")];
  const set = (open) => {
    tools.toggleAttribute("data-open", open);
    opener.setAttribute("aria-expanded", String(open));
  };
  opener.addEventListener("click", () => {
    set(!tools.hasAttribute("data-open"));
    if (tools.hasAttribute("data-open")) [...tools.children].find((tool) => tool.checkVisibility())?.focus();
  });
  // A press anywhere else closes the menu.
  document.addEventListener("click", (event) => event.target instanceof Element && !event.target.closest("#tools-open") && set(false));
  tools.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    set(false);
    opener.focus();
  });
}
