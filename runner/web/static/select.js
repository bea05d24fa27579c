// Which jobs of the list are selected: the whole page at once, and how many they are.
const page = () => document.querySelector("#pick-page");
const every = () => document.querySelector("#pick-all");
const boxes = () => [...document.querySelectorAll('input[name="id"]')];

export function select() {
  document.documentElement.classList.add("scripted");
  document.addEventListener("change", (event) => {
    if (event.target === page()) for (const one of boxes()) one.checked = page().checked;
    tell();
  });
  document.addEventListener("exchanged", tell);
  addEventListener("pageshow", tell); // a browser that goes back fills in what was checked
  tell();
}

function tell() {
  if (!page()) return;
  const all = boxes(), count = all.filter((one) => one.checked).length;
  page().checked = count === all.length;
  page().indeterminate = count > 0 && count < all.length;
  const told = document.querySelector("#picked");
  const text = every().checked ? "all that match" : count ? `${count} selected` : "";
  if (told.textContent !== text) told.textContent = text;
  for (const one of document.querySelectorAll("#act-cancel, #act-retry")) one.disabled = !text;
}
