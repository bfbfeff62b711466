// The latent space on a canvas: drag to turn or move, wheel or two fingers to zoom, hover or tap for a row.
const CLASS_COLORS = ["#4c8fd6", "#e8833a", "#3fa66b", "#d1495b", "#9467bd", "#a0725f", "#dd7fc0", "#8b8f94", "#b5b13a", "#35b0c0"];

function startLatent(box) {
  const { points, groups, names, errors, axes, sprite } = FIGURES.latent;
  const canvas = box.querySelector("canvas");
  const tip = html(box, "div", "tip");
  tip.hidden = true;
  const start = () => ({ flat: view ? view.flat : axes.length < 3, yaw: 0.7, pitch: 0.45, zoom: 1, dx: 0, dy: 0 });
  let view = null;
  view = start();
  let only = -1, pixels = [], near = -1, queued = false;
  const fingers = new Map();

  const shade = (i) => {
    if (groups) return CLASS_COLORS[groups[i] % CLASS_COLORS.length];
    const t = errors.rank[i];
    return `hsl(${Math.round(215 - 205 * t)} 70% ${Math.round(58 - 8 * t)}%)`;
  };

  // Turn around the upright axis, then tip over; a mild perspective shows what is in front.
  function place([x, y, z]) {
    if (view.flat) return [x, y, 0];
    const cy = Math.cos(view.yaw), sy = Math.sin(view.yaw), cp = Math.cos(view.pitch), sp = Math.sin(view.pitch);
    const u = x * cy - z * sy, w = x * sy + z * cy;
    const v = y * cp - w * sp, depth = y * sp + w * cp;
    const scale = 3 / (3 + depth);
    return [u * scale, v * scale, depth];
  }

  function paint() {
    queued = false;
    const width = canvas.clientWidth, height = canvas.clientHeight, dots = window.devicePixelRatio || 1;
    canvas.width = width * dots;
    canvas.height = height * dots;
    const context = canvas.getContext("2d");
    context.scale(dots, dots);
    const unit = Math.min(width, height) * 0.45 * view.zoom * (view.flat ? 1 : 0.9);
    const at = (p) => { const [u, v, d] = place(p); return [width / 2 + view.dx + u * unit, height / 2 + view.dy - v * unit, d]; };
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--soft");
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    const ends = [];
    axes.slice(0, view.flat ? 2 : 3).forEach((label, k) => {
      const tipOf = [0, 0, 0], tail = [0, 0, 0];
      tipOf[k] = 1.08;
      tail[k] = -1.08;
      const [a, b] = [at(tail), at(tipOf)];
      context.beginPath();
      context.moveTo(a[0], a[1]);
      context.lineTo(b[0], b[1]);
      context.stroke();
      ends.push([label, b]);
    });
    pixels = points.map(at);
    const order = pixels.map((_, i) => i).filter((i) => only < 0 || !groups || groups[i] === only).sort((a, b) => pixels[b][2] - pixels[a][2]);
    const radius = Math.min(5, (points.length > 600 ? 2.6 : 3.4) * Math.sqrt(view.zoom));
    for (const i of order) {
      context.globalAlpha = view.flat ? 0.75 : 0.85 - 0.35 * Math.min(1, Math.max(0, (pixels[i][2] + 1) / 2));
      context.fillStyle = shade(i);
      context.beginPath();
      context.arc(pixels[i][0], pixels[i][1], radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeStyle = style.getPropertyValue("--panel");
    context.fillStyle = style.getPropertyValue("--soft");
    for (const [label, [x, y]] of ends) {
      const half = context.measureText(label).width / 2 + 4;
      const place = [Math.min(Math.max(x, half), width - half), Math.min(Math.max(y - 6, 14), height - 6)];
      context.strokeText(label, ...place);
      context.fillText(label, ...place);
    }
    if (near >= 0) {
      context.strokeStyle = style.getPropertyValue("--ink");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(pixels[near][0], pixels[near][1], radius + 3, 0, 7);
      context.stroke();
    }
  }

  const later = () => { if (!queued) { queued = true; requestAnimationFrame(paint); } };

  function point(x, y) {
    let best = -1, least = 18 ** 2;
    pixels.forEach(([a, b], i) => {
      const distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least && (only < 0 || !groups || groups[i] === only)) { least = distance; best = i; }
    });
    if (best !== near) { near = best; later(); }
    tip.hidden = best < 0;
    if (best < 0) return;
    tip.replaceChildren();
    if (sprite) {
      const zoom = Math.max(1, Math.round(84 / sprite.height)), image = html(tip, "i");
      const row = Math.floor(best / sprite.columns), column = best % sprite.columns;
      image.style.cssText = `width:${sprite.width * zoom}px;height:${sprite.height * zoom}px;background:url(${sprite.src}) ${-column * sprite.width * zoom}px ${-row * sprite.height * zoom}px/${sprite.columns * sprite.width * zoom}px auto`;
    }
    html(tip, "div", "", `row ${FIGURES.latent.rows[best] + 1}${groups ? `, ${names[groups[best]]}` : ""}`);
    html(tip, "div", "", `error ${short(errors.values[best])}`);
    const [a, b] = pixels[best];
    tip.style.left = `${Math.max(0, Math.min(a + 14, canvas.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${canvas.offsetTop + Math.max(0, Math.min(b + 14, canvas.clientHeight - tip.offsetHeight))}px`;
  }

  const zoomBy = (factor) => { view.zoom = Math.min(20, Math.max(0.5, view.zoom * factor)); later(); };
  function drag(dx, dy) {
    if (view.flat) { view.dx += dx; view.dy += dy; }
    else { view.yaw -= dx * 0.01; view.pitch = Math.min(1.55, Math.max(-1.55, view.pitch + dy * 0.01)); }
    later();
  }
  const inside = (event) => { const frame = canvas.getBoundingClientRect(); return [event.clientX - frame.left, event.clientY - frame.top]; };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, inside(event));
    point(...inside(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId), now = inside(event);
    if (!before) { point(...now); return; }
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      zoomBy(Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])));
    } else drag(now[0] - before[0], now[1] - before[1]);
    fingers.set(event.pointerId, now);
    if (Math.hypot(now[0] - before[0], now[1] - before[1]) > 1) tip.hidden = true;
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { near = -1; tip.hidden = true; later(); });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(Math.exp(-event.deltaY * 0.0015)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
    if (moves[event.key]) drag(...moves[event.key]);
    else if (event.key === "+") zoomBy(1.25);
    else if (event.key === "-") zoomBy(0.8);
    else return;
    event.preventDefault();
  });
  const buttons = [...box.querySelectorAll("[data-act]")];
  const pressed = () => buttons.forEach((b) => b.dataset.act.endsWith("d") && b.setAttribute("aria-pressed", (b.dataset.act === "2d") === view.flat));
  for (const button of buttons)
    button.addEventListener("click", () => {
      const act = button.dataset.act;
      if (act === "in") zoomBy(1.3);
      else if (act === "out") zoomBy(1 / 1.3);
      else { if (act !== "reset") view.flat = act === "2d"; view = start(); pressed(); later(); }
    });
  if (groups) {
    const list = box.querySelector(".keys");
    names.forEach((name, k) => {
      const key = html(list, "button");
      key.type = "button";
      key.setAttribute("aria-pressed", "false");
      html(key, "i").style.background = CLASS_COLORS[k % CLASS_COLORS.length];
      key.append(name);
      key.addEventListener("click", () => {
        only = only === k ? -1 : k;
        [...list.children].forEach((other, j) => other.setAttribute("aria-pressed", j === only));
        later();
      });
    });
  }
  pressed();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
  new ResizeObserver(later).observe(canvas);
}

const latentBox = document.querySelector(".latent");
if (latentBox) startLatent(latentBox);
