// Loaded before anything is drawn. The choice is kept where the hub keeps its own, so both look the same.
(() => {
  const key = "jupyterhub-bs-theme";
  const chosen = localStorage.getItem(key);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = (theme) => document.documentElement.setAttribute("data-bs-theme", theme);
  show(chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => {
    const kept = localStorage.getItem(key);
    if (kept !== "dark" && kept !== "light") show(dark.matches ? "dark" : "light");
  });
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme-toggle")?.addEventListener("click", () => {
      const next = document.documentElement.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
      localStorage.setItem(key, next);
      show(next);
    });
  });
})();
