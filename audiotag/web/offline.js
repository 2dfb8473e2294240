// A service worker: answers from its cache, so that the page works without a network after the first visit.
const CACHE = "audiotag-VERSION";
const FILES = ["./", ...NAMES];

addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  const others = caches.keys().then((names) => names.filter((name) => name.startsWith("audiotag-") && name !== CACHE));
  event.waitUntil(others.then((names) => Promise.all(names.map((name) => caches.delete(name)))).then(() => clients.claim()));
});

addEventListener("fetch", (event) => {
  event.respondWith(caches.match(event.request, { cacheName: CACHE }).then((found) => found ?? fetch(event.request)));
});
