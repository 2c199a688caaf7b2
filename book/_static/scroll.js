/* A formula that is wider than the page scrolls; where it does, the keyboard must reach it. */
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const reach = () => {
    for (const formula of document.querySelectorAll(".bd-article mjx-container[display=true]"))
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
  };
  reach();
  addEventListener("resize", reach);
});
