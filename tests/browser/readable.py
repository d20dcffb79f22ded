"""Text that cannot be read: too little contrast with the ground that is really behind it, in the theme of now."""

from __future__ import annotations

from playwright.sync_api import Locator

ENOUGH, ENOUGH_WHEN_LARGE = 4.5, 3.0
"""Of the Web Content Accessibility Guidelines, level AA."""

_CONTRASTS = """
root => {
  const parse = colour => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number)
    return [r, g, b, a]
  }
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)]
  const light = colour => {
    const [r, g, b] = colour.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ground = element => {
    const layers = []
    for (let at = element; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor))
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255])
  }
  const found = new Map()
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement
    if (!text || element.closest('svg, style, script') || !element.getClientRects().length) continue
    const style = getComputedStyle(element)
    const behind = ground(element), ink = over(parse(style.color), behind)
    const [low, high] = [light(ink), light(behind)].sort((x, y) => x - y)
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700
    const large = size >= 24 || (bold && size >= 18.66)
    const contrast = (high + 0.05) / (low + 0.05)
    const key = [style.color, behind.map(Math.round)].join(' on ')
    if (contrast < (large ? LARGE : NORMAL) && !found.has(key))
      found.set(key, `${contrast.toFixed(1)} : 1, ${key}: ${text.slice(0, 60)}`)
  }
  return [...found.values()]
}
"""


def unreadable(elements: Locator) -> list[str]:
    """Each pair of colours with too little contrast, and a text that has it. An SVG picture brings its own ground
    (tests/test_show_topology.py)."""
    script = _CONTRASTS.replace("LARGE", str(ENOUGH_WHEN_LARGE)).replace("NORMAL", str(ENOUGH))
    return elements.evaluate_all(f"elements => [...new Set(elements.flatMap({script.strip()}))]")
