"use strict";
// The page is whole without this. It adds: the values under the pointer, and buttons that copy.
for (const plot of document.querySelectorAll(".plot")) {
  const card = plot.closest(".card");
  const lines = Array.from(plot.querySelectorAll("[data-hover]"), (group) => ({ label: group.dataset.label, points: JSON.parse(group.dataset.hover) }));
  const cursor = document.createElementNS(plot.namespaceURI, "line");
  const tip = document.createElement("p");
  cursor.setAttribute("class", "cursor");
  tip.className = "tip";
  const view = plot.viewBox.baseVal;
  const nearest = (points, x) => points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
  const leave = () => { cursor.remove(); tip.remove(); };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * view.width;
    const held = lines.map((line) => [line.label, nearest(line.points, x)]);
    const at = held.reduce((best, [, point]) => (Math.abs(point[0] - x) < Math.abs(best - x) ? point[0] : best), held[0][1][0]);
    tip.textContent = held.map(([label, point]) => `${label}: ${point[3]} (update ${point[2]})`).join("\n");
    for (const [name, value] of [["x1", at], ["x2", at], ["y1", 10], ["y2", view.height - 26]]) cursor.setAttribute(name, value);
    plot.append(cursor);
    card.append(tip);
    const left = (at / view.width) * box.width;
    const place = left > box.width / 2 ? left - tip.offsetWidth - 10 : left + 10;
    tip.style.left = `${Math.max(0, Math.min(place, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${box.top - card.getBoundingClientRect().top - tip.offsetHeight}px`; // above the plot, so that no curve is covered
  });
  plot.addEventListener("pointerleave", leave);
  document.addEventListener("scroll", leave, { passive: true });
}
for (const button of document.querySelectorAll(".copy button")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
