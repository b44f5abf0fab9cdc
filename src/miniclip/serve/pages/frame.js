// What gradio leaves out: live regions, names and focus for screen readers and keyboards; and that
// what a click brings is in sight.
(() => {
  const mend = () => {
    for (const place of document.querySelectorAll(".prose.said:not([role])")) {
      place.setAttribute("role", "status");
      place.setAttribute("aria-live", "polite");
    }
    for (const tile of document.querySelectorAll(".thumbnail-item > img[alt]")) {
      const name = tile.alt;
      if (name && tile.parentElement.ariaLabel !== name) tile.parentElement.ariaLabel = name;
    }
    for (const menu of document.querySelectorAll(".overflow-menu")) {
      const [button, list] = menu.children; // the pages that a phone has no room for
      button.ariaExpanded = String(!list.classList.contains("hide"));
    }
    for (const group of document.querySelectorAll("fieldset")) {
      const [first, ...others] = group.querySelectorAll("input[type=radio]");
      for (const radio of others) if (radio.name !== first.name) radio.name = first.name; // for the arrow keys
    }
    for (const frame of document.querySelectorAll("button > .image-frame")) {
      if (!frame.parentElement.ariaLabel) frame.parentElement.ariaLabel = "the picture";
    }
    for (const head of document.querySelectorAll(".toast-header[role=button]")) {
      head.removeAttribute("role"); // it holds a button of its own
      head.removeAttribute("tabindex");
    }
    for (const around of document.querySelectorAll("button.icon-button:not([role]):has(button)")) {
      around.setAttribute("role", "group"); // it holds the button that uploads
      around.setAttribute("tabindex", "-1");
      around.ariaLabel = around.title = "more files";
    }
    for (const table of document.querySelectorAll(".card table:not([tabindex])")) table.tabIndex = 0; // it scrolls
    for (const box of document.querySelectorAll("div.empty[aria-label]")) box.removeAttribute("aria-label");
  };
  let wanted = null; // until it was there for a moment: it may grow
  const bring = () => {
    const place = [...document.querySelectorAll(wanted)].find((one) => one.offsetParent);
    if (!place) return;
    place.scrollIntoView({ block: "nearest" });
    const brought = wanted;
    setTimeout(() => { if (wanted === brought) wanted = null; }, 700);
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest(".hits .thumbnail-item")) wanted = ".chosen";
    else if (event.target.closest("button.turning, .turning button")) wanted = ".answer .said";
    else wanted = null;
    soon();
  });
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); if (wanted) bring(); });
  };
  new MutationObserver(soon).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["class"] });
  document.addEventListener("keydown", (event) => {
    const menu = document.querySelector(".overflow-menu > button[aria-expanded=true]");
    if (event.key === "Escape" && menu) { menu.click(); menu.focus(); }
  });
  soon();
})();
