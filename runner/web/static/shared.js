// What stands after # in the address never went over the wire: it is sent as the body of a form.
const text = location.hash.slice(1);
if (text) {
  history.replaceState(null, "", location.pathname);
  const field = document.querySelector("#link");
  field.value = text;
  field.form.submit();
}
