// Small enhancements over htmx; every page reads and every form works without them.
(() => {
  const root = document.documentElement, $ = (s, e = document) => e.querySelector(s), $$ = (s, e = document) => [...e.querySelectorAll(s)];
  const notes = $("#notes");
  let lost = false, heard = Date.now();
  // htmx begins in a timer of its own, which keys that are typed at once come before: what was typed until then is asked for now
  const begun = new Promise((r) => setTimeout(r));
  const ask = (field) => begun.then(() => field.dispatchEvent(new Event("search")));
  $$("input[hx-trigger]").forEach((i) => begun.then(() => { if (i.value !== i.defaultValue) ask(i); }));

  // what is told of a lost server or session stands in templates, so that it is translated with the page
  const tell = (id) => {
    if (notes.dataset.told === id) return;
    notes.dataset.told = id;
    notes.replaceChildren($(id).content.cloneNode(true));
    const since = $("[data-since]", notes);
    if (since) { const at = new Date(heard); since.dateTime = at.toISOString(); since.textContent = at.toISOString().slice(11, 19) + " UTC"; }
  };
  const untell = () => { if (notes.dataset.told) { notes.replaceChildren(); delete notes.dataset.told; } };
  const gone = () => { lost = true; tell("#t-lost"); };
  const back = () => { heard = Date.now(); if (lost) { lost = false; untell(); } };

  // live parts: the same page is asked for again and its live part is merged in place; focus and scroll stay
  const live = () => $("[data-live]");
  let waiting = 0, last = Date.now();
  const busy = () => $("[data-live] input:checked") || $("dialog[open]") || document.hidden || $("[data-live] :is(input,select,textarea):focus");
  const refresh = () => {
    const part = live();
    if (!part || !window.htmx || busy()) return;
    last = Date.now();
    htmx.ajax("GET", location.pathname + location.search, { target: "#" + part.id, select: "#" + part.id, swap: "outerMorph" });
  };
  const soon = () => { if (!waiting) waiting = setTimeout(() => { waiting = 0; refresh(); }, Math.max(400, 2000 - (Date.now() - last))); };

  let source;
  const follow = async () => {
    const path = document.body.dataset.follow;
    if (!path || document.hidden || source) return;
    const stop = source = new AbortController();
    try {
      const answer = await fetch(path, { headers: { Accept: "text/event-stream" }, signal: stop.signal, cache: "no-store" });
      if (answer.status === 401) { tell("#t-over"); source = undefined; setTimeout(follow, 5000); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      if (notes.dataset.told === "#t-over") untell();
      back();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        back();
        if (value.includes("event:")) soon();
      }
    } catch { if (!stop.signal.aborted) gone(); }
    if (source === stop) source = undefined;
    if (!document.hidden) setTimeout(follow, 2000);
  };
  const unfollow = () => { source?.abort(); source = undefined; };
  document.addEventListener("visibilitychange", () => { if (document.hidden) unfollow(); else { follow(); soon(); } });
  addEventListener("pagehide", unfollow);
  addEventListener("pageshow", follow);
  follow();
  setInterval(() => { const part = live(); if (part && Date.now() - last > (part.hasAttribute("data-quick") ? 3000 : 30000)) refresh(); }, 1500);
  document.addEventListener("htmx:response:error", (e) => { if (e.detail?.ctx?.response?.status === 401) tell("#t-over"); });
  document.addEventListener("htmx:error", (e) => { if (e.detail?.error instanceof TypeError) gone(); });

  // a form is not sent into the void
  document.addEventListener("submit", (e) => {
    if (lost && e.target.method === "post") { e.preventDefault(); delete notes.dataset.told; tell("#t-lost"); }
  });

  document.addEventListener("click", async (e) => {
    const b = e.target.closest("button, a"); if (!b) return;
    if (b.hasAttribute("data-theme-switch")) {
      e.preventDefault();
      const dark = (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
      root.dataset.theme = dark ? "light" : "dark";
      document.cookie = `certctl_theme=${root.dataset.theme}; path=/; max-age=31536000; secure; samesite=lax`;
    }
    if (b.hasAttribute("data-palette")) { e.preventDefault(); openPalette(); }
    if (b.hasAttribute("data-copy")) {
      await navigator.clipboard.writeText($(b.dataset.copy).textContent);
      const told = $("[role=status]", b.parentElement); if (told) told.textContent = $("#t-copied").content.textContent;
    }
    if (b.hasAttribute("data-clear")) { $$("[data-select] input").forEach((i) => { i.checked = false; }); count(); }
  });

  // the zone of this browser, offered by its name
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  $$("[data-zone]").forEach((b) => {
    if (!here.includes("/")) return;
    b.value = here; b.hidden = false; $("span", b).textContent = here;
    if (b.dataset.zone === here) b.setAttribute("aria-pressed", "true");
  });

  // typed confirmation
  const match = (i) => { $(".btn", i.form).disabled = i.value.trim() !== i.dataset.match.trim(); };
  $$("[data-match]").forEach(match);
  document.addEventListener("input", (e) => { if (e.target.dataset.match !== undefined) match(e.target); });

  // selection: shift extends, the bar follows
  let lastAt;
  const boxes = () => $$("[data-select] tbody input[type=checkbox]");
  const count = () => {
    const bar = $(".bulk"); if (!bar) return;
    const n = boxes().filter((i) => i.checked).length;
    $("[data-count]", bar).textContent = n; bar.hidden = !n;
  };
  document.addEventListener("click", (e) => {
    if (e.target.type !== "checkbox" || !e.target.closest("[data-select]")) return;
    const all = boxes(), at = all.indexOf(e.target);
    if (at < 0) all.forEach((i) => { i.checked = e.target.checked; });
    else if (e.shiftKey && lastAt !== undefined) all.slice(Math.min(at, lastAt), Math.max(at, lastAt) + 1).forEach((i) => { i.checked = e.target.checked; });
    if (at >= 0) lastAt = at;
    count();
  });
  if ($(".bulk")) count();

  // command palette
  const palette = $("#palette");
  const openPalette = () => {
    if (!palette || palette.open) return;
    palette.showModal();
    const field = $("input", palette); field.value = ""; $("#found").replaceChildren();
    field.focus();
    // by the field's own request, which what is typed next replaces: an answer that comes late never overwrites it
    ask(field);
  };
  const options = () => $$("a.opt", palette);
  const choose = (at) => {
    const all = options(); if (!all.length) return;
    const now = all.findIndex((o) => o.getAttribute("aria-selected") === "true");
    const next = (at === undefined ? 0 : now + at + all.length) % all.length;
    $$(".gh", palette).forEach((h) => h.setAttribute("role", "presentation"));
    all.forEach((o, i) => { o.setAttribute("role", "option"); o.setAttribute("aria-selected", i === next); o.tabIndex = -1; o.id = "found-" + i; });
    all[next].scrollIntoView({ block: "nearest" });
    $("input", palette).setAttribute("aria-activedescendant", all[next].id);
  };
  palette?.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); choose(e.key === "ArrowDown" ? 1 : -1); }
    if (e.key === "Enter") { const at = options().find((o) => o.getAttribute("aria-selected") === "true"); if (at) { e.preventDefault(); location.href = at.href; } }
  });
  palette?.addEventListener("click", (e) => { if (e.target === palette) palette.close(); });
  document.addEventListener("htmx:after:swap", () => { if (palette?.open) choose(); count(); });

  document.addEventListener("keydown", (e) => {
    if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "k" && palette) { e.preventDefault(); openPalette(); return; }
    if (e.target.closest("input:not([type=checkbox]), textarea, select, dialog") || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/") { const s = $("main input[type=search]"); if (s) { e.preventDefault(); s.focus(); s.select(); } }
    if (e.key === "x") { const box = document.activeElement.closest("tr")?.querySelector("input[type=checkbox]"); if (box) { box.checked = !box.checked; count(); } }
    if (/^[jk]$/.test(e.key)) {
      const links = $$("main .name, .queue a"), i = links.indexOf(document.activeElement);
      links[Math.max(0, Math.min(links.length - 1, i + (e.key === "j" ? 1 : -1)))]?.focus();
    }
  });
})();
