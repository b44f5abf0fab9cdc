// What gradio leaves out for screen readers and keyboards: live regions, names, and focus.
(() => {
  const mend = () => {
    for (const place of document.querySelectorAll(".said:not([role])")) {
      place.setAttribute("role", "status");
      place.setAttribute("aria-live", "polite");
    }
    for (const box of document.querySelectorAll("div.empty[aria-label]")) box.removeAttribute("aria-label");
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); });
  };
  new MutationObserver(soon).observe(document.documentElement, { childList: true, subtree: true });
  soon();
})();
