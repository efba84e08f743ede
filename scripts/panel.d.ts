// Types of the panel's page that TypeScript's own library lacks. Only scripts/panel-check reads this file.

/** Every element of the page is HTML or SVG. */
interface Element extends HTMLOrSVGElement {}

/** The events by which the modules of the panel notify each other. */
interface DocumentEventMap {
  [name: `vestnik:${string}`]: CustomEvent<any>;
}

/** Not in every browser: https://developer.mozilla.org/docs/Web/API/Navigator/usb, and serial. */
interface Navigator {
  readonly usb?: any;
  readonly serial?: any;
}
