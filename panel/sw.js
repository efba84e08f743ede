/**
 * Keeps the shell of the panel, so that it opens while the server is away and says so. Events, lists and everything
 * else below /api are never touched: what is on the screen is the truth, or it is not there.
 */

/** Both are filled in where it is built: another version is another worker. */
const SHELL = "vestnik-shell-VERSION";
const FILES = ["FILES"];
/** A server that has not answered by then is away. */
const PATIENCE_MS = 3_000;
/** One that is away is not waited for again so soon: a page has several files. */
const AWAY_MS = 5_000;
let awaySince = -Infinity;

self.addEventListener("install", (event) => {
  // What the page has just loaded is not loaded again.
  const requests = FILES.map((file) => new Request(file, { cache: "force-cache" }));
  event.waitUntil(caches.open(SHELL).then((shell) => shell.addAll(requests)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const others = caches.keys().then((names) => Promise.all(names.filter((name) => name !== SHELL).map((name) => caches.delete(name))));
  event.waitUntil(others.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const isShell = event.request.method === "GET" && url.origin === location.origin && FILES.includes(url.pathname);
  if (isShell) event.respondWith(newestOrKept(event.request, url.pathname));
});

/** The server's own, for a page must not be of two versions; the kept one only where it is away. */
async function newestOrKept(request, path) {
  const mayBeAway = performance.now() - awaySince < AWAY_MS && (await caches.match(path));
  if (mayBeAway) return mayBeAway;
  try {
    const answer = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.ok) (await caches.open(SHELL)).put(path, answer.clone());
    return answer;
  } catch (error) {
    awaySince = performance.now();
    const kept = await caches.match(path);
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const pages = self.clients.matchAll({ type: "window" });
  event.waitUntil(pages.then(([page]) => (page ? page.focus() : self.clients.openWindow("/"))));
});
