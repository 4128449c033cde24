(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const form = $("ask");
  const pane = $("run");
  const stageNode = $("stage");
  const settled = (work) => ["done", "failed", "stopped"].includes(work.status);
  let state = { works: [], loaded: [] };
  let here = { view: "work", folder: "", number: 0 };  // what is looked at
  let mine = 0;  // the work that was asked for last, whose run is shown once there is one
  let seen = "";  // of the run that is shown: what makes it worth asking for again
  let given = null;  // pictures that were brought in
  let editing = "";
  const pins = new Map();  // images of other runs, to be compared with
  const parts = new Map();  // what the run's parts were made from
  const chosen = { left: "", right: "" };

  const complain = (message, hint = "") => {
    const box = $("error");
    box.replaceChildren();
    for (const [words, soft] of [[message, false], [hint, true]]) {
      if (!words) continue;
      const line = document.createElement("p");
      line.textContent = words;
      if (soft) line.className = "soft";
      box.append(line);
    }
    box.hidden = !message;
    if (message) box.scrollIntoView({ block: "nearest" });
  };
  const answer = async (response) => {
    if (response.ok) return response;
    const told = await response.json().catch(() => ({ message: "gcr ui does not answer as it should", hint: "" }));
    throw Object.assign(new Error(told.message), { hint: told.hint });
  };
  const act = async (path, values = {}) => {
    try {
      const sent = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) };
      const result = await (await answer(await fetch(path, sent))).json();
      complain("");
      return result;
    } catch (error) {
      complain(error.message, error.hint);
      return null;
    }
  };
  const part = async (path) => {
    const html = await (await answer(await fetch(path))).text();
    return new DOMParser().parseFromString(html, "text/html").body;
  };

  // What is looked at follows from the address, so that back and forward work.

  const go = (hash) => {
    if (location.hash === hash) route();
    else location.hash = hash;
  };
  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;  // it was typed by hand
    }
  };
  const route = () => {
    const [view, ...rest] = location.hash.slice(1).split("/");
    const name = decoded(rest.join("/"));
    const known = ["gallery", "settings"].includes(view) ? view : "work";
    const folder = view === "run" ? name : "";
    const number = view === "judged" ? Number(name) || 0 : 0;
    if (folder !== here.folder || number !== here.number) {
      stageNode.hidden = true;
      arrange([stageNode]);
      parts.clear();
      seen = "";
      away = Boolean(folder || number);
      chosen.left = chosen.right = "";
    }
    here = { view: known, folder, number };
    for (const each of ["work", "gallery", "settings"]) $(`view-${each}`).hidden = each !== known;
    for (const tab of document.querySelectorAll("[data-tab]")) {
      if (tab.dataset.tab === known) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    if (known === "gallery") showGallery(view === "gallery" ? name : "");
    if (known === "settings") showSettings();
    render();
  };

  const showGallery = async (within) => {
    const cards = $("cards");
    cards.setAttribute("aria-busy", "true");
    try {
      const body = await part(`/gallery?within=${encodeURIComponent(within)}`);
      cards.replaceChildren(...body.childNodes);
      $("within").textContent = within ? within.split("/").pop() : "Gallery";
      $("up").hidden = !within;
      startGallery(cards);
    } catch (error) {
      complain(error.message, error.hint);
    }
    cards.setAttribute("aria-busy", "false");
  };
  const showSettings = async () => {
    const told = await act("/settings", { flags: flags() });
    if (told) $("rows").innerHTML = told.html;
  };

  // The form.

  const flags = () => {
    const values = {};
    for (const field of form.querySelectorAll("[data-setting]")) {
      if (field.value !== field.dataset.held && field.value.trim()) values[field.name] = field.value;
    }
    return values;
  };
  const fill = (prompt, values) => {
    if (prompt) form.elements.prompt.value = prompt;
    for (const [name, value] of Object.entries(values)) {
      const field = form.querySelector(`[data-setting][name="${name}"]`);
      if (!field) continue;
      field.value = Array.isArray(value) ? value.join("\n") : value;
      const panel = field.closest("details");
      if (panel && field.value !== field.dataset.held) panel.open = true;
    }
  };
  // Where all is in one column, what is looked at would be below the form.
  let away = false;
  const toBench = () => {
    if (away && matchMedia("(max-width: 59.99rem)").matches) document.querySelector(".bench").scrollIntoView();
    away = false;
  };
  const begun = (told) => {
    if (!told) return;
    mine = told.number;
    away = true;
    go("#work");
    toBench();
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = { prompt: form.elements.prompt.value, flags: flags(), approve: form.elements.approve.checked };
    if (editing) asked.edit = editing;
    begun(await act("/refine", asked));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  // Pictures that are brought in.

  const bring = async (files) => {
    const taken = [];
    for (const file of files) {
      try {
        const sent = { method: "POST", headers: { "X-Name": encodeURIComponent(file.name) }, body: file };
        taken.push(await (await answer(await fetch("/upload", sent))).json());
      } catch (error) {
        complain(error.message, error.hint);
      }
    }
    if (taken.length) show(taken.map((each) => ({ ...each, path: `brought/${each.id}` })));
  };
  const show = (pictures) => {
    given = pictures;
    $("given").hidden = false;
    $("given-image").src = pictures[0].src;
    $("given-image").alt = pictures[0].name;
    $("given-name").textContent = pictures.map((each) => each.name).join(", ");
    const { prompt, size, ours } = pictures[0];
    const says = prompt ? `drawn with: ${prompt}` : size ?? "an image of yours";
    $("given-says").textContent = says;
    $("given-begin").disabled = pictures.length > 1 || !(prompt || ours);
    $("given-edit").disabled = pictures.length > 1;
    edit(false);
    $("given").scrollIntoView({ block: "nearest" });
  };
  $("file").addEventListener("change", (event) => {
    bring([...event.target.files]);
    event.target.value = "";
  });
  $("given-away").addEventListener("click", () => {
    edit(false);
    given = null;
    $("given").hidden = true;
    form.elements.prompt.focus();
  });
  $("given-judge").addEventListener("click", async () => {
    const prompt = form.elements.prompt.value.trim() || given[0].prompt;
    if (!prompt) {
      complain("Say what the picture is to show", "write it above, then press Judge it");
      form.elements.prompt.focus();
      return;
    }
    form.elements.prompt.value = prompt;
    begun(await act("/critique", { images: given.map((each) => each.path), prompt, flags: flags() }));
  });
  const begin = async (path) => {
    const told = await act("/begin", { image: path });
    if (!told) return;
    fill(told.prompt, told.flags);
    if (told.notices.length) complain(...told.notices[0]);
    form.elements.prompt.focus();
  };
  $("given-begin").addEventListener("click", () => begin(given[0].path));
  const edit = (on) => {
    editing = on ? given[0].path : "";
    $("given-edit").setAttribute("aria-pressed", String(on));
    form.elements.prompt.placeholder = on ? "say what is to change about it" : form.dataset.example;
  };
  $("given-edit").addEventListener("click", () => edit(!editing));
  let depth = 0;
  const drag = (by) => (event) => {
    event.preventDefault();
    depth += by;
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", drag(1));
  addEventListener("dragleave", drag(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("dragging");
    const files = [...event.dataTransfer.files].filter((file) => file.type.startsWith("image/"));
    const address = event.dataTransfer.getData("text/uri-list").split("\n")[0];
    if (files.length) bring(files);
    else if (address.startsWith(`${location.origin}/files/`)) {
      const path = new URL(address).pathname.slice(1);
      show([{ path, src: `/${path}`, name: decodeURIComponent(path.split("/").pop()), ours: true }]);
    }
    go(here.view === "work" ? location.hash || "#work" : "#work");
  });

  // What is going on.

  const PHASES = { draw: "drawing", judge: "judging" };
  const status = (work) => {
    if (work.status === "waiting") {
      const before = state.works.filter((each) => !settled(each) && each.number < work.number).length;
      return `waiting for ${before === 1 ? "the one" : `${before}`} before it`;
    }
    if (work.status === "failed") return "failed";
    if (work.stopping && !settled(work)) return "stopping after this round";
    if (work.status === "loading") return work.phase || "loading the models";
    if (work.status === "asking") return "it asks you what next";
    if (settled(work)) return work.end || "done";
    const round = work.kind === "run" ? `round ${work.rounds}: ` : "";
    return round + (PHASES[work.phase] ?? (work.phase || (work.rounds ? "wording the prompt" : "beginning")));
  };
  const rows = new Map();
  const failures = new Set();
  const dismissed = new Set();
  const row = (work) => {
    let item = rows.get(work.number);
    if (!item) {
      item = document.createElement("li");
      item.innerHTML = '<a class="text words"></a><button type="button">Stop</button><p class="soft"></p><progress max="1"></progress>';
      item.querySelector("button").addEventListener("click", () => {
        if (!failures.has(work.number)) return act("/stop", { number: work.number });
        dismissed.add(work.number);
        render();
      });
      rows.set(work.number, item);
    }
    const [link, stop, words, bar] = item.children;
    link.textContent = work.title;
    const place = work.kind === "run" ? work.folder && `#run/${encodeURIComponent(work.folder)}` : `#judged/${work.number}`;
    if (place) link.href = place;
    const failed = work.status === "failed";
    if (failed) failures.add(work.number);
    stop.hidden = !failed && (settled(work) || work.kind !== "run" && work.status !== "waiting");
    stop.disabled = work.stopping && !failed;
    stop.textContent = failed ? "Put away" : work.status === "waiting" ? "Take back" : "Stop";
    stop.setAttribute("aria-label", `${stop.textContent}: ${work.title}`);
    const notices = work.notices.map(([message]) => message);
    const failure = work.error ? work.error.filter(Boolean) : [];
    words.textContent = [status(work), work.then, ...failure, ...notices].filter(Boolean).join(" · ");
    words.classList.toggle("failed", failed);
    bar.classList.toggle("still", !["loading", "running"].includes(work.status));
    bar.setAttribute("aria-label", "How far it is");
    if (work.total && work.status === "running" && work.phase) bar.value = work.done / work.total;
    else if (settled(work) || work.status === "asking") bar.value = 1;
    else bar.removeAttribute("value");
    return item;
  };
  const current = () => state.works.find((work) => work.number === here.number)
    ?? state.works.findLast((work) => here.folder && work.folder === here.folder);

  const render = () => {
    const asked = state.works.find((work) => work.number === mine);
    if (asked && here.view === "work" && !(here.folder || here.number)) {
      if (asked.kind === "run" && asked.folder) {
        mine = 0;
        history.replaceState(null, "", `#run/${encodeURIComponent(asked.folder)}`);
        return route();
      }
      if (asked.kind === "critique" && asked.status === "done") {
        mine = 0;
        history.replaceState(null, "", `#judged/${asked.number}`);
        return route();
      }
    }
    // The last one stays, so that nothing moves when it is done; and what failed, until it is put away.
    const shown = state.works.filter((work) => !dismissed.has(work.number) && (!settled(work) || work.status === "failed" || work === state.works.at(-1)));
    $("works").replaceChildren(...shown.map(row));
    const work = current();
    const asks = work?.status === "asking" ? work : null;
    const panel = $("asking");
    const proposal = asks ? JSON.stringify([asks.number, asks.rounds, asks.proposal]) : "";
    if (asks && panel.dataset.proposal !== proposal) {
      $("next").value = asks.proposal[0];
      $("changes").innerHTML = asks.changes;
      $("others").textContent = asks.proposal.slice(1).map((each) => `And beside it: ${each}`).join(" ");
      $("remark").value = "";
    }
    if (panel.hidden === Boolean(asks)) panel.hidden = !asks;
    panel.dataset.proposal = proposal;
    const words = state.loaded.length ? `In memory: ${[...new Set(state.loaded)].join(", ")}` : "No models in memory yet.";
    if ($("loaded").textContent !== words) $("loaded").textContent = $("loaded").title = words;
    $("release").hidden = !state.loaded.length || state.busy;
    $("empty").hidden = Boolean(here.folder || here.number || shown.length);
    load(work);
    document.title = asks ? "What next? – gcr" : work && !settled(work) ? `${status(work)} – gcr` : "gcr";
  };

  // The run that is shown. Only parts that have changed are put in anew.

  const load = async (work) => {
    if (here.view !== "work" || !(here.folder || here.number)) return;
    const key = JSON.stringify([here.folder, here.number, work?.rounds, work && (settled(work) || work.status === "asking"), work?.number]);
    if (key === seen) return;
    seen = key;
    await reload();
  };
  let latest = 0;  // of the questions for a page
  const reload = async () => {
    const { folder, number } = here;
    const turn = (latest += 1);
    const path = folder ? `/run?folder=${encodeURIComponent(folder)}` : `/ranking?number=${number}`;
    pane.setAttribute("aria-busy", "true");
    try {
      const body = await part(path);
      // An answer that was overtaken by a later one is old.
      if (turn !== latest || folder !== here.folder || number !== here.number) return;
      const focus = where(document.activeElement);
      const next = [...body.querySelectorAll("[data-part]")].map((node) => {
        const name = node.dataset.part;
        const old = pane.querySelector(`[data-part="${name}"]`);
        if (old && parts.get(name) === node.outerHTML) return old;
        parts.set(name, node.outerHTML);
        for (const open of old?.querySelectorAll("details[open]") ?? []) {
          const places = [...old.querySelectorAll("details")];
          node.querySelectorAll("details")[places.indexOf(open)]?.setAttribute("open", "");
        }
        return node;
      });
      next.splice(1, 0, stageNode);
      arrange(next);
      if (focus) pane.querySelector(focus)?.focus({ preventScroll: true });
      $("empty").hidden = true;
      stage();
      toBench();
    } catch (error) {
      complain(error.message, error.hint);
    } finally {
      if (turn === latest) pane.setAttribute("aria-busy", "false");
    }
  };
  // What stays where it is keeps the focus, and is not drawn again.
  const arrange = (next) => {
    for (const child of [...pane.children]) if (!next.includes(child)) child.remove();
    next.forEach((node, place) => {
      if (pane.children[place] !== node) pane.insertBefore(node, pane.children[place] ?? null);
    });
  };
  const where = (node) => {
    const image = node?.closest?.("#run [data-image]")?.dataset.image;
    if (!image) return "";
    const { act: what, go: how } = node.dataset;
    const mark = what ? `[data-act="${what}"]` : how ? `[data-go="${how}"]` : node.value ? `[value="${node.value}"]` : "";
    return mark && `[data-image="${CSS.escape(image)}"] ${mark}`;
  };

  // Any two images, one over the other.

  const range = document.querySelector("#stage input[type=range]");
  const slider = document.querySelector("#stage .slider");
  const images = () => {
    const all = [...pane.querySelectorAll("article")].flatMap((node, place) => {
      const image = node.querySelector(".frame img");
      if (!image) return [];
      const name = node.dataset.image?.replace(/\.\w+$/, "") ?? `picture ${place + 1}`;
      const score = node.querySelector(".score b")?.textContent ?? "";
      const won = node.classList.contains("won") ? ", best" : "";
      return [{ src: image.getAttribute("src"), tiny: image.classList.contains("tiny"), size: [image.getAttribute("width"), image.getAttribute("height")], words: `${name}: ${score}${won}`, won: Boolean(won) }];
    }).sort((a, b) => (a.words < b.words ? -1 : 1));
    const others = [...pins.values()].filter((pin) => !all.some((each) => each.src === pin.src));
    return [...all, ...others];
  };
  const stage = () => {
    const all = images();
    stageNode.hidden = all.length < 2;
    if (all.length < 2) return;
    const has = (src) => all.some((each) => each.src === src);
    const left = has(chosen.left) ? chosen.left : all[0].src;
    const best = all.find((each) => each.won && each.src !== left) ?? all.find((each) => each.src !== left);
    const right = has(chosen.right) ? chosen.right : best.src;
    for (const [id, value, kind] of [["left", left, "before"], ["right", right, "after"]]) {
      $(id).replaceChildren(...all.map((each) => new Option(each.words, each.src, false, each.src === value)));
      const image = all.find((each) => each.src === value);
      const shown = slider.querySelector(`.${kind}`);
      if (shown.getAttribute("src") !== value) shown.src = value;
      shown.alt = image.words;
      shown.classList.toggle("tiny", image.tiny);
      if (kind === "after" && image.size) ["--w", "--h"].forEach((name, at) => stageNode.style.setProperty(name, image.size[at]));
    }
  };
  for (const side of ["left", "right"]) {
    $(side).addEventListener("change", () => {
      chosen[side] = $(side).value;
      stage();
    });
  }
  const compare = (src) => {
    if (chosen.right && chosen.right !== src) chosen.left = chosen.right;
    else chosen.left = chosen.left === src ? "" : chosen.left;
    chosen.right = src;
    stage();
    slider.scrollIntoView({ block: "center" });
    range.focus({ preventScroll: true });
  };

  // Links and buttons of a run. The address says which run it is, so a link to an image leaves it.

  pane.addEventListener("click", (event) => {
    const image = document.getElementById(event.target.closest("a[href^='#']")?.getAttribute("href").slice(1));
    if (!image) return;
    event.preventDefault();
    image.scrollIntoView({ block: "center" });
    image.querySelector("a, button").focus({ preventScroll: true });
  });
  document.addEventListener("click", async (event) => {
    const star = event.target.closest("#run .star");
    const button = event.target.closest("#run button");
    if (!button) return;
    const article = button.closest("[data-image]");
    const image = article?.dataset.image;
    const folder = here.folder;
    const { act: what, go: how, more, try: words } = button.dataset;
    if (star) {
      const value = star.getAttribute("aria-pressed") === "true" ? "none" : star.value;
      if (await act("/rate", { folder, image, value })) await reload();
    } else if (what === "compare") {
      const shown = article.querySelector(".frame img");
      const src = shown.getAttribute("src");
      pins.set(src, { src, size: [shown.getAttribute("width"), shown.getAttribute("height")], tiny: shown.classList.contains("tiny"), words: `${image} of ${folder.split("/").pop()}` });
      compare(src);
    } else if (how) {
      if (!await act("/go-on", { folder, image, how, flags: flags(), approve: form.elements.approve.checked })) return;
      if (how === "keep") await reload();
      else $("works").scrollIntoView({ block: "nearest" });
    } else if (what === "begin") {
      await begin(article.querySelector(".frame img").getAttribute("src"));
    } else if (what === "edit") {
      const src = article.querySelector(".frame img").getAttribute("src");
      show([{ path: src.slice(1), src, name: image, ours: true }]);
      edit(true);
      form.elements.prompt.value = "";
      form.elements.prompt.focus();
    } else if (more !== undefined) {
      await act("/resume", { folder, rounds: Number(more), flags: flags(), approve: form.elements.approve.checked });
    } else if ("again" in button.dataset) {
      form.elements.prompt.value = pane.querySelector(".run-title h2").textContent;
      form.elements.prompt.focus();
    } else if (words) {
      form.elements.prompt.value = words;
      form.elements.prompt.focus();
    }
  });
  $("asking").addEventListener("submit", (event) => {
    event.preventDefault();
    act("/decide", { number: current().number, action: "go", prompt: $("next").value });
  });
  $("enough").addEventListener("click", () => act("/decide", { number: current().number, action: "stop" }));
  const reword = () => act("/decide", { number: current().number, action: "reword", remark: $("remark").value });
  $("reword").addEventListener("click", reword);
  $("remark").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    reword();
  });
  $("release").addEventListener("click", () => act("/release"));

  const events = new EventSource("/events");
  events.addEventListener("message", (event) => {
    state = JSON.parse(event.data);
    $("offline").hidden = true;
    render();
  });
  events.addEventListener("error", () => {
    $("offline").hidden = false;
  });
  addEventListener("hashchange", route);
  route();
})();
