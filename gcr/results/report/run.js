(() => {
  "use strict";
  // A page has nobody to tell of a rating: it gives the command that does.
  for (const group of document.querySelectorAll(".rating[data-command]")) {
    group.addEventListener("click", async (event) => {
      const star = event.target.closest(".star");
      if (!star) return;
      const command = `${group.dataset.command} ${star.value}`;
      const note = group.querySelector("[aria-live]");
      const copied = await navigator.clipboard?.writeText(command).then(() => true, () => false);
      note.innerHTML = "";
      const code = document.createElement("code");
      code.textContent = command;
      note.append(copied ? "copied, for a terminal: " : "in a terminal: ", code);
    });
  }
  const slider = document.querySelector(".slider");
  if (!slider) return;
  const range = slider.querySelector("input");
  const move = () => {
    slider.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${Math.round(range.value)}%`);
  };
  range.addEventListener("input", move);
  move();
  for (const radio of document.querySelectorAll(".choice input")) {
    radio.addEventListener("change", () => {
      for (const image of slider.querySelectorAll(".before")) {
        image.hidden = image.dataset.before !== radio.value;
      }
      document.querySelector(".ends [data-name]").textContent = radio.dataset.name;
    });
  }
})();
