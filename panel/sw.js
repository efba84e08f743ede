/**
 * The service worker caches the files of the panel, so that the panel opens while the server cannot be reached. The
 * worker never caches events, lists or other responses of /api, because the screen must not show old data as current.
 */

/** build.rs fills in both constants, so each version of the panel has its own worker. */
const SHELL = "vestnik-shell-VERSION";
const FILES = ["FILES"];
/** A server that has not responded after this time counts as unreachable. */
const PATIENCE_MS = 3_000;
/** For this time after a failed request, the worker responds with cached files at once. Otherwise a page would wait for each of its files. */
const AWAY_MS = 5_000;
let awaySince = -Infinity;

self.addEventListener("install", (event) => {
  // The browser's cache may serve these files, because the page has just loaded them.
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

/** Responds with the file from the server, because a page must not mix files of two versions. If the server cannot be reached, responds with the cached file. */
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
