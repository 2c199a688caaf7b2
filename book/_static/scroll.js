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
