// What a card shows, as a file: rows as CSV, drawings as PNG. Nothing is sent anywhere.
import { make } from "./format.js";

export function csvButton(name, rows) {
  return make("button", { type: "button", class: "save", title: "Save as CSV", onclick: () => save(`${name}.csv`, new Blob([csv(rows())], { type: "text/csv" })) }, "CSV");
}

export function pngButton(name, svgs, title) {
  return make("button", { type: "button", class: "save", title: "Save as PNG", onclick: () => drawing(svgs(), title).toBlob((blob) => save(`${name}.png`, blob)) }, "PNG");
}

// A cell that a spreadsheet would take for a formula is told to be text.
function cell(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "number" ? String(value) : String(value).replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const csv = (rows) => rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";

function save(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// The content policy lets no picture in that a script made, so the lines are drawn once more.
function drawing(svgs, title) {
  const boxes = svgs.map((svg) => svg.getBoundingClientRect());
  const scale = 2;
  const head = 28;
  const canvas = document.createElement("canvas");
  canvas.width = scale * Math.max(...boxes.map((box) => box.width));
  canvas.height = scale * (head + boxes.reduce((sum, box) => sum + box.height + 8, 0));
  const ink = canvas.getContext("2d");
  const root = getComputedStyle(document.querySelector(".card"));
  ink.fillStyle = root.backgroundColor;
  ink.fillRect(0, 0, canvas.width, canvas.height);
  ink.scale(scale, scale);
  ink.fillStyle = root.color;
  ink.font = `600 14px ${root.fontFamily}`;
  ink.fillText(title, 8, 19);
  let top = head;
  svgs.forEach((svg, i) => {
    const view = svg.viewBox.baseVal;
    ink.save();
    ink.translate(0, top);
    if (view?.width) ink.scale(boxes[i].width / view.width, boxes[i].height / view.height);
    for (const node of svg.children) element(ink, node);
    ink.restore();
    top += boxes[i].height + 8;
  });
  return canvas;
}

const number = (node, name) => Number(node.getAttribute(name) || 0);

function element(ink, node) {
  const style = getComputedStyle(node);
  if (style.display === "none") return;
  ink.save();
  ink.globalAlpha = Number(style.opacity);
  if (node.tagName === "text") {
    ink.fillStyle = style.fill;
    ink.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    ink.textAlign = { middle: "center", end: "right" }[style.textAnchor] || "left";
    const move = node.transform.baseVal.consolidate()?.matrix;
    if (move) ink.transform(move.a, move.b, move.c, move.d, move.e, move.f);
    ink.fillText(node.textContent, number(node, "x"), number(node, "y"));
  } else {
    const path = node.tagName === "path" ? new Path2D(node.getAttribute("d")) : new Path2D();
    if (node.tagName === "line") {
      path.moveTo(number(node, "x1"), number(node, "y1"));
      path.lineTo(number(node, "x2"), number(node, "y2"));
    }
    if (node.tagName === "rect") path.rect(number(node, "x"), number(node, "y"), number(node, "width"), number(node, "height"));
    if (style.fill !== "none" && node.tagName !== "line") {
      ink.fillStyle = style.fill;
      ink.globalAlpha *= Number(style.fillOpacity);
      ink.fill(path);
      ink.globalAlpha = Number(style.opacity);
    }
    if (style.stroke !== "none") {
      ink.strokeStyle = style.stroke;
      ink.lineWidth = parseFloat(style.strokeWidth);
      ink.setLineDash(style.strokeDasharray === "none" ? [] : style.strokeDasharray.split(",").map(parseFloat));
      ink.stroke(path);
    }
  }
  ink.restore();
}
