// A link that cancels asks first, on this page. Says whether it is asking.
export function confirm() {
  const dialog = document.querySelector("#cancel-dialog");
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-cancel]");
    if (!link || !dialog || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    dialog.querySelector("form").action = link.href;
    dialog.querySelector("#cancel-title").textContent = `Cancel job ${link.dataset.cancel}?`;
    dialog.showModal();
  });
  return () => Boolean(dialog?.open);
}
