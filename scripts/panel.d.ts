// What the panel's page has and the library of TypeScript does not know. Read by scripts/panel-check only.

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
