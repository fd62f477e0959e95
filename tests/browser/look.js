// What a test asks of a page: which texts stand out too little, and what a keyboard must reach.

function parsed(color) {
  const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
  return { rgb: [red, green, blue], alpha };
}

function behind(element) {
  for (let one = element; one; one = one.parentElement) {
    const { rgb, alpha } = parsed(getComputedStyle(one).backgroundColor);
    if (alpha === 1) return rgb;
    if (alpha > 0) throw new Error(`half transparent: ${one.outerHTML.slice(0, 80)}`);
  }
  return [255, 255, 255];
}

// Of WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
function luminance(rgb) {
  const [red, green, blue] = rgb
    .map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

// Texts whose contrast is below the limit, each with its contrast; figures are looked at elsewhere.
function faint(limit) {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = {};
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest("svg, script, style")) continue;
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= 24;
    const seen = contrast(parsed(style.color).rgb, behind(element));
    if (seen < (large ? 3 : limit)) found[text.slice(0, 40)] = seen.toFixed(2);
  }
  return found;
}

const DOABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']";

// Names of all that can be done, and of what can be scrolled, in the order of the page.
function doable() {
  const scrolls = (one) =>
    /auto|scroll/.test(getComputedStyle(one).overflowX) &&
    one.scrollWidth > one.clientWidth &&
    !one.querySelector(DOABLE);
  return [...document.body.querySelectorAll("*")]
    .filter((one) => one.checkVisibility() && (one.matches(DOABLE) || scrolls(one)))
    .map((one, n) => (one.dataset.n = `${n} ${one.tagName} ${one.innerText.slice(0, 20)}`));
}

// From the page's start on, writes down in `reached` what gets the focus, and whether one sees that.
function watch() {
  document.body.tabIndex = -1;
  document.body.focus();
  document.body.removeAttribute("tabindex");
  window.reached = [];
  document.addEventListener("focusin", ({ target }) => {
    const name = target.dataset.n ?? target.outerHTML.slice(0, 80);
    window.reached.push([name, getComputedStyle(target).outlineStyle !== "none"]);
  });
}
