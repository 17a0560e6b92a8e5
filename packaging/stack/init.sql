-- Runs when the stack's PostgreSQL makes its data folder. Whatever the image's language, texts are UTF-8.
CREATE ROLE vxlan_operator LOGIN;
CREATE DATABASE vxlan_operator OWNER vxlan_operator ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0;
