(() => {
  "use strict";
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
