(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A page opened from a file may be kept from storing anything.
  const remembered = (act) => { try { return act(localStorage); } catch { return null; } };
  const chosen = remembered((store) => store.getItem("gcr-theme"));
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector(".theme");
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remembered((store) => store.setItem("gcr-theme", root.dataset.theme));
      show();
    });
    dark.addEventListener("change", show);
    show();
  });
})();
