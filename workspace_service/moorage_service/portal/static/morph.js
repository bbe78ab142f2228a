// Brings the parts of the page that are marked [data-live] to what a newer page says, touching only what differs:
// focus, selections, open details and half-filled fields stay as they are.

export function refresh(newer) {
  document.title = newer.title;
  if (newer.body.dataset.live) document.body.dataset.live = newer.body.dataset.live;
  else delete document.body.dataset.live;
  for (const old of document.querySelectorAll("[data-live-part]")) {
    const fresh = newer.getElementById(old.id);
    if (fresh) morph(old, fresh);
  }
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id ?? "") !== (fresh.id ?? "")) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.matches("iframe, input, textarea, select") && !old.matches("[data-follow]")) return;
  const atEnd = old.matches("pre.log") && old.scrollHeight - old.scrollTop - old.clientHeight < 24;
  attributes(old, fresh);
  if (!old.matches("[data-plot]")) children(old, fresh); // a plot is drawn here
  if (atEnd) old.scrollTop = old.scrollHeight;
}

function attributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && name !== "disabled" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
}

function children(old, fresh) {
  const known = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const keyed = wanted.id ? known.get(wanted.id) : null;
    if (keyed && keyed !== at) old.insertBefore(keyed, at);
    const present = keyed ?? at;
    if (!present || (!keyed && wanted.id) || (!keyed && present.id)) {
      old.insertBefore(document.importNode(wanted, true), at);
      continue;
    }
    at = present.nextSibling;
    morph(present, wanted);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
