"use strict";
// Shows the document of the api that serves this page; nothing is asked of any other address.
window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#viewer",
    deepLinking: true,
    displayRequestDuration: true,
    validatorUrl: null,
  });
});
