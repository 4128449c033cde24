// What all pages do: sliders move, texts are copied, and pictures are looked at one by one.
(() => {
  "use strict";
  const status = document.createElement("p");
  status.className = "sr";
  status.setAttribute("role", "status");
  document.body.append(status);

  // Sliders, and what is on their left.

  const move = (range) => {
    range.closest(".slider").style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${Math.round(range.value)}%`);
  };
  document.addEventListener("input", ({ target }) => {
    if (target.matches(".slider input")) move(target);
  });
  // A browser that goes back to the page has kept where they stood.
  for (const range of document.querySelectorAll(".slider input")) move(range);
  document.addEventListener("change", ({ target }) => {
    if (!target.matches(".choice input")) return;
    const both = target.closest(".both");
    for (const image of both.querySelectorAll(".before")) {
      image.hidden = image.dataset.before !== target.value;
    }
    both.querySelector("[data-name]").textContent = target.dataset.name;
  });

  // Copying. Pages from files have no clipboard in some browsers, and in others it may be refused.

  const selected = (text) => {
    const area = document.createElement("textarea");
    const before = document.activeElement;
    area.value = text;
    area.className = "sr";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus({ preventScroll: true });
    return done;
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return selected(text);
    }
  };
  const shown = (text, words, place) => {
    const code = document.createElement("code");
    code.textContent = text;
    place.replaceChildren(words, code);
  };
  const copyOf = async (button) => {
    const text = button.dataset.copy;
    const done = await copy(text);
    button.dataset.words ??= button.textContent;
    status.textContent = done ? "Copied" : "";
    if (done) {
      button.textContent = "Copied";
      button.classList.add("copied");
      clearTimeout(button.timer);
      button.timer = setTimeout(() => {
        button.textContent = button.dataset.words;
        button.classList.remove("copied");
        status.textContent = "";
      }, 2000);
      return;
    }
    const place = document.createElement("span");
    place.className = "by-hand";
    shown(text, "", place);
    button.replaceWith(place);
    getSelection().selectAllChildren(place);
  };
  // A page from a file has nobody to tell of a rating: it gives the command that does.
  const rate = async (star) => {
    const group = star.closest(".rating");
    const command = `${group.dataset.command} ${star.value}`;
    const words = (await copy(command)) ? "copied, for a terminal: " : "in a terminal: ";
    shown(command, words, group.querySelector("[aria-live]"));
  };

  // Pictures, one by one: those of the page that are not filtered out, each once.

  const box = document.createElement("dialog");
  box.className = "lightbox";
  box.setAttribute("aria-label", "The pictures of this page");
  box.innerHTML = `<button type="button" class="close" aria-label="Close">✕</button>
    <button type="button" class="back" aria-label="Previous picture">‹</button>
    <figure><img alt=""><figcaption><span class="caption words" dir="auto" aria-live="polite"></span>
    <span class="number"></span> <a></a></figcaption></figure>
    <button type="button" class="on" aria-label="Next picture">›</button>`;
  const large = box.querySelector("img");
  let all = [];
  let at = 0;
  let opener = null;
  const fileOf = (image) => image.dataset.full || image.getAttribute("src");
  const linkOf = (image) => image.closest("a") ?? image.closest(".frame")?.parentElement.querySelector("a");
  const gathered = () => {
    const by = new Map();
    for (const image of document.querySelectorAll("img[data-full]")) {
      if (image.checkVisibility()) by.set(fileOf(image), image);
    }
    return [...by.values()].map((image) => {
      const link = linkOf(image);
      return {
        file: fileOf(image),
        caption: image.dataset.caption || image.alt,
        width: image.getAttribute("width"),
        height: image.getAttribute("height"),
        tiny: image.classList.contains("tiny"),
        link: link?.getAttribute("href") ?? "",
        words: /\.(png|jpe?g|webp)$/i.test(link?.href) ? "Open the file" : "Open its page",
      };
    });
  };
  const show = (place) => {
    at = (place + all.length) % all.length;
    const picture = all[at];
    large.src = picture.file;
    large.alt = picture.caption;
    large.width = picture.width;
    large.height = picture.height;
    large.style.setProperty("--w", picture.width);
    large.style.setProperty("--h", picture.height);
    large.classList.toggle("tiny", picture.tiny);
    box.querySelector(".caption").textContent = picture.caption;
    box.querySelector(".number").textContent = `${at + 1} of ${all.length}`;
    const link = box.querySelector("a");
    link.hidden = !picture.link;
    link.href = picture.link;
    link.textContent = picture.words;
    for (const button of box.querySelectorAll(".back, .on")) button.hidden = all.length < 2;
    for (const by of [1, -1]) new Image().src = all[(at + by + all.length) % all.length].file;
  };
  const open = (image, from) => {
    all = gathered();
    opener = from;
    show(Math.max(0, all.findIndex((picture) => picture.file === fileOf(image))));
    document.body.append(box);
    box.showModal();
  };
  const steps = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => -1 };
  box.addEventListener("keydown", (event) => {
    if (!steps[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(steps[event.key]());
  });
  box.addEventListener("click", ({ target }) => {
    if (target.closest(".back")) show(at - 1);
    else if (target.closest(".on")) show(at + 1);
    else if (!target.closest("img, figcaption") || target.closest("a")) box.close();
  });
  let begun = null;
  large.addEventListener("pointerdown", (event) => {
    begun = event.clientX;
  });
  box.addEventListener("pointerup", (event) => {
    const by = begun === null ? 0 : event.clientX - begun;
    begun = null;
    if (Math.abs(by) > 40) show(at - Math.sign(by));
  });
  large.draggable = false;
  box.addEventListener("close", () => {
    // What opened it may have been put in anew since.
    const same = [...document.querySelectorAll("img[data-full]")].find((image) => fileOf(image) === all[at].file);
    (opener.isConnected ? opener : same && linkOf(same))?.focus({ preventScroll: true });
  });

  // The page of a run that goes on is loaded again every few seconds, but not under somebody's eyes.

  const live = document.querySelector('meta[name="gcr-live"]');
  if (live) setInterval(() => box.open || location.reload(), 1000 * live.content);

  // One click, one key: what they mean.

  const imageIn = (node) => node?.querySelector("img[data-full]:not(.raw)");
  document.addEventListener("click", (event) => {
    const { target } = event;
    const copying = target.closest("[data-copy]");
    if (copying) return copyOf(copying);
    if (target.closest(".rating[data-command] .star")) return rate(target.closest(".star"));
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || box.contains(target)) return;
    const enlarge = target.closest(".enlarge");
    const link = enlarge ? enlarge.parentElement : target.closest("a.frame, a:not([href])");
    if (!imageIn(link)) return;
    event.preventDefault();
    open(imageIn(link), enlarge ?? link);
  });
  document.addEventListener("keydown", (event) => {
    const link = event.target.closest?.("a");
    const opens = event.key === " " || (event.key === "Enter" && !link?.hasAttribute("href"));
    if (!opens || box.open || !imageIn(link)) return;
    event.preventDefault();
    open(imageIn(link), link);
  });
})();
