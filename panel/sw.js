/**
 * The service worker caches the files of the panel, so that it opens while the server cannot be reached. It never
 * caches events, lists or other responses of /api, because the screen must not show old data as current.
 */

/** The build fills in both constants: each version of the panel has its own worker. */
const SHELL = "vestnik-shell-VERSION";
const FILES = ["FILES"];
/** A server that has not responded after this time counts as unreachable. */
const PATIENCE_MS = 3_000;
/** For this time after a failure, cached files are used without a new request: a page has several files. */
const AWAY_MS = 5_000;
let awaySince = -Infinity;

self.addEventListener("install", (event) => {
  // Use the browser's cache, because the page has just loaded these files.
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

/** Responds with the server's file, because a page must not mix two versions. The cached file is used only if the server is unreachable. */
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
