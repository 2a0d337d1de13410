// Before anything is drawn, so that a dark page does not flash: what the viewer chose, else what the system says.
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
