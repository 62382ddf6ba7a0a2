// What a browser made of a page: measured from the frame around it. Returns plain data.
function measure(page, view) {
  const found = { overlaps: [], blank: [], faint: [], unnamed: [], plots: 0 };
  found.dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  found.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;

  const boxOf = (element) => element.getBoundingClientRect();
  const shown = (box) => box.width > 0.5 && box.height > 0.5 && box.right > 0;
  const meets = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const words = (element) => element.textContent.trim().slice(0, 40);

  // The lines of every text, as they were broken; a parent of text is no text of its own.
  const texts = [];
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || ["SCRIPT", "STYLE", "TITLE"].includes(parent.tagName) || parent.closest("details:not([open])")) continue;
    const range = page.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (shown(box)) texts.push({ box, parent });
  }
  for (let i = 0; i < texts.length; i++)
    for (let j = i + 1; j < texts.length; j++)
      if (texts[i].parent !== texts[j].parent && !texts[i].parent.closest(".scroll") && meets(texts[i].box, texts[j].box))
        found.overlaps.push(words(texts[i].parent) + " | " + words(texts[j].parent));
  const sections = [...page.querySelectorAll("section")];
  for (let i = 1; i < sections.length; i++)
    if (meets(boxOf(sections[i - 1]), boxOf(sections[i]))) found.overlaps.push(`section ${i}`);

  for (const plot of page.querySelectorAll("svg.chart")) {
    found.plots += 1;
    const frame = boxOf(plot);
    const drawn = [...plot.querySelectorAll("path, circle")].map(boxOf).filter((box) => box.width + box.height > 1);
    if (!drawn.length || drawn.some((box) => box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1))
      found.blank.push(plot.getAttribute("aria-label") || "a plot");
  }

  // Contrast by WCAG 2.1: relative luminance of the text against the first ground behind it that is not clear.
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(view.getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  for (const { parent } of texts) {
    const style = view.getComputedStyle(parent);
    const ink = light(numbers(parent.namespaceURI.endsWith("svg") ? style.fill : style.color)), paper = light(ground(parent));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) found.faint.push(`${words(parent)}: ${ratio.toFixed(1)}`);
  }

  for (const element of page.querySelectorAll("svg[role=img], [role=region]")) if (!element.getAttribute("aria-label")) found.unnamed.push(element.outerHTML.slice(0, 60));
  for (const table of page.querySelectorAll("table")) if (!table.querySelector("caption") || !table.querySelector("th[scope]")) found.unnamed.push("a table");
  for (const section of page.querySelectorAll("section")) if (!page.getElementById(section.getAttribute("aria-labelledby"))) found.unnamed.push("a section");
  return found;
}
