/* A formula or a table that is wider than the page scrolls; where it does, the keyboard must reach it. */
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const scrolls = ".bd-article mjx-container[display=true], .pst-scrollable-table-container";
  const reach = () => {
    for (const wide of document.querySelectorAll(scrolls))
      if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
      else wide.removeAttribute("tabindex");
  };
  reach();
  addEventListener("resize", reach);
});

// On paper nothing can be unfolded: what is folded stands open, but for code; and paper is white.
let before = null;
addEventListener("beforeprint", () => {
  const folded = [...document.querySelectorAll(".bd-article details:not([open], .above-input)")];
  before = { folded, theme: document.documentElement.dataset.theme };
  for (const part of folded) part.open = true;
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  for (const part of before.folded) part.open = false;
  document.documentElement.dataset.theme = before.theme;
});
