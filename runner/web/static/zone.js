// Offers the zone of the browser.
const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
const select = document.querySelector("#zone");
if (own && [...select.options].some((one) => one.value === own) && select.value !== own) {
  const told = document.querySelector("#own-zone");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = own;
  button.addEventListener("click", () => { select.value = own; select.form.submit(); });
  told.append("This browser is in ", button);
  told.hidden = false;
}
